"""`authtally publish`: what a file holds arrives, converted, each element at least once and under the same id."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from deploy.command_line import main
from deploy.commands.data import FORMATS
from deploy.publish.run import ALIASES
from deploy.servers import Tansu, create_topics
from deploy.servers.process import start_child, stop_child, tail
from schemas.adapters.registry import ADAPTERS
from schemas.events import DECODERS
from tests.conftest import wait_until
from tests.deploy.conftest import Deployment

NOON_MS = 1_767_225_600_123


class Sent(NamedTuple):
    key: bytes | None
    event: Any
    timestamp: int


class Kafka:
    """Two topics of the embedded broker, and what they hold."""

    def __init__(self, broker: str, unique: str) -> None:
        self.broker = broker
        self.topics = {f"logins.{unique}": "login", f"tokens.{unique}": "token"}
        create_topics(broker, dict.fromkeys(self.topics, 2))
        self.environment = {
            "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": broker,
            "AUTHTALLY_KAFKA_IDEMPOTENCE": "off",
            "AUTHTALLY_TOPICS": ",".join(f"{topic}={name}" for topic, name in self.topics.items()),
        }

    def run(self, *arguments: str, given: bytes | io.BytesIO | None = None, **settings: Any) -> Any:
        return CliRunner().invoke(main, ["publish", *arguments], input=given, env=self.environment | settings)

    def start(self, folder: Path, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-m", "deploy.command_line", "publish", *arguments)
        return subprocess.Popen(command, cwd=folder, env=self.child_environment, **more)

    @property
    def child_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "PYTHONPATH": str(Path(__file__).parents[2])}

    def sent(self, name: str) -> list[Sent]:
        """Everything on the topic bound to `name`, decoded by what a worker reads with."""
        (topic,) = (topic for topic, bound in self.topics.items() if bound == name)
        return [
            Sent(message.key(), DECODERS[name].decode(message.value()), message.timestamp()[1])
            for message in messages(self.broker, topic)
        ]


def messages(broker: str, topic: str) -> list[Any]:
    """What both partitions of a topic hold."""
    reader = Consumer({"bootstrap.servers": broker, "group.id": "reader", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(2)])
    found, ended = [], 0
    try:
        while ended < 2:
            read = reader.consume(10_000, 1)
            ended += sum(message.error() is not None for message in read)
            found += [message for message in read if message.error() is None]
    finally:
        reader.close()
    return found


@pytest.fixture
def kafka(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kafka:
    monkeypatch.chdir(tmp_path)
    return Kafka(broker, tmp_path.name)


def login(user: str, **more: Any) -> dict[str, Any]:
    return {"type": "login", "time": "2026-06-01T12:00:00Z", "user_id": user, **more}


def written(path: Path, *events: dict[str, Any] | str) -> str:
    path.write_text("\n".join(event if isinstance(event, str) else json.dumps(event) for event in events) + "\n")
    return str(path)


def test_formats_are_the_adapters() -> None:
    named = {ALIASES.get(name, name) for name in FORMATS}
    assert named == set(ADAPTERS)


def test_native_events_arrive_under_keys_of_their_ids(kafka: Kafka, tmp_path: Path) -> None:
    token = {"type": "token", "time": "2026-06-01T12:00:00Z", "grant_type": "password", "tokens": ["access_token"]}
    file = written(tmp_path / "events.jsonl", login("ada", id="a", realm="acme"), login("bob", id="b"), token)

    done = kafka.run(file, "--no-ids")

    assert done.exit_code == 0, done.output
    assert "Published 3 events from 3 elements" in done.stdout
    assert done.stderr == "", "no bar without a terminal"
    logins = kafka.sent("login")
    assert {(sent.event.user_id, sent.event.id, sent.event.realm) for sent in logins} == {
        ("ada", "a", "acme"),
        ("bob", "b", None),
    }
    assert len({sent.key for sent in logins}) == 2
    (issued,) = kafka.sent("token")
    assert (issued.key, issued.event.id, issued.event.tokens) == (None, None, ("access_token",))


def test_records_carry_the_time_of_sending(kafka: Kafka, tmp_path: Path) -> None:
    kafka.run(written(tmp_path / "old.jsonl", login("ada", time="2011-01-01T00:00:00Z")))
    (sent,) = kafka.sent("login")
    assert sent.event.time.year == 2011
    assert sent.timestamp > NOON_MS


def test_foreign_events_are_converted(kafka: Kafka, tmp_path: Path) -> None:
    def keycloak(number: int, kind: str, **details: str) -> dict[str, Any]:
        who = {"realmName": "shop", "clientId": "web", "userId": f"u{number}"}
        return {"id": f"k{number}", "time": NOON_MS, "type": kind, **who, "details": details}

    events = [
        keycloak(1, "LOGIN"),
        keycloak(2, "CODE_TO_TOKEN", grant_type="authorization_code", scope="openid"),
        keycloak(3, "UPDATE_PROFILE"),
    ]
    (tmp_path / "events.json.gz").write_bytes(gzip.compress(json.dumps(events, indent=2).encode()))

    done = kafka.run(str(tmp_path / "events.json.gz"), "--format", "keycloak", "--json")

    told = json.loads(done.stdout)
    assert (done.exit_code, told["events"], told["ignored"], told["rejected"]) == (0, 2, 1, {})
    assert [sent.event.user_id for sent in kafka.sent("login")] == ["u1"]
    assert [sent.event.grant_type for sent in kafka.sent("token")] == ["authorization_code"]


BAD = ("not json", login("ada", id="x", time="1970-01-01T00:00:00Z"), {"type": "login"})


def test_what_is_rejected_is_told_and_written_and_the_rest_arrives(kafka: Kafka, tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", login("ada"), BAD[0], "", BAD[1], login("bob"), BAD[2])

    done = kafka.run(file, "--rejects", str(tmp_path / "bad.jsonl"))

    assert done.exit_code == 1
    assert "3 rejected" in done.output
    assert {sent.event.user_id for sent in kafka.sent("login")} == {"ada", "bob"}
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(each["line"], each["element"], each["reason"]) for each in bad] == [
        (2, 1, "not_json"),
        (4, 2, "impossible_time"),
        (6, 4, "missing_field"),
    ]
    assert bad[0]["value"] == "not json"
    assert all(each["detail"] for each in bad)


def test_a_dry_run_tells_all_of_it_and_sends_nothing(kafka: Kafka, tmp_path: Path) -> None:
    months = [login(f"u{number % 7}", time=f"2026-0{1 + number % 2}-01T00:30:00Z") for number in range(100)]
    refresh = {"type": "token", "time": "2026-03-01T00:00:00Z", "grant_type": "refresh_token", "tokens": ["a", "b"]}
    events = [*months, login("x", success=False), refresh | {"user_id": "r"}, refresh | {"grant_type": "password"}]
    file = written(tmp_path / "events.jsonl", *events, *BAD)

    done = kafka.run(file, "--dry-run", "--json", AUTHTALLY_TIMEZONE="America/New_York")

    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["rejected"]["not_json"] == {
        "count": 1,
        "examples": [{"line": 104, "element": 103, "detail": told["rejected"]["not_json"]["examples"][0]["detail"]}],
    }
    shown = {
        month: (row["active_users"], row["exact"], row["logins"], row["failed_logins"], row["tokens"])
        for month, row in told["months"].items()
    }
    assert shown == {
        "2025-12": (7, True, 50, 0, 0),
        "2026-01": (7, True, 50, 0, 0),
        "2026-02": (1, True, 0, 0, 4),
        "2026-06": (0, True, 0, 1, 0),
    }
    assert kafka.sent("login") == []
    assert not (tmp_path / "events.jsonl.published").exists()
    assert "2025-12" in kafka.run(file, "--dry-run", AUTHTALLY_TIMEZONE="America/New_York").output


def test_a_dry_run_needs_no_kafka_and_estimates_many_users(kafka: Kafka, tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", *(login(f"user {number}") for number in range(20_000)))
    done = kafka.run(file, "--dry-run", "--json", AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.exit_code == 0, done.output
    (month,) = json.loads(done.stdout)["months"].values()
    assert not month["exact"]
    assert abs(month["active_users"] / 20_000 - 1) < 4 * month["standard_error"]


def test_the_same_input_gives_the_same_ids_and_another_one_others(kafka: Kafka, tmp_path: Path) -> None:
    # The same event three times is three logins: nothing says that they are copies.
    one = written(tmp_path / "one.jsonl", login("ada"), login("ada"), login("bob"))
    other = written(tmp_path / "other.jsonl", login("ada"), login("bob"))
    runs = [[one], [one, "--restart"], [other], [other, "--restart", "--source", "node 2"]]
    ids: list[str] = []
    for arguments in runs:
        before = len(ids)
        assert kafka.run(*arguments).exit_code == 0
        known = Counter(ids)
        now = Counter(sent.event.id for sent in kafka.sent("login"))
        ids += list((now - known).elements())
        assert len(ids) > before
    assert len(set(ids[:3])) == 3
    assert set(ids[:3]) == set(ids[3:6])
    assert len(set(ids[6:8]) & set(ids[:3])) == 1, "ada at the beginning of both"
    assert not set(ids[8:]) & set(ids[:8])


def test_a_second_run_sends_nothing_and_a_longer_file_only_what_is_new(kafka: Kafka, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = written(path, login("ada"), "bad", login("bob"))
    assert kafka.run(file, "--rejects", str(tmp_path / "bad")).exit_code == 1
    assert "Published 2 events from 3 elements in all" in kafka.run(file, "--rejects", str(tmp_path / "bad")).output
    with path.open("a") as longer:
        longer.write(json.dumps(login("eve")) + "\nworse\n")

    done = kafka.run(file, "--rejects", str(tmp_path / "bad"))

    assert "3 elements were acknowledged before" in done.output
    assert sorted(sent.event.user_id for sent in kafka.sent("login")) == ["ada", "bob", "eve"]
    bad = [json.loads(line) for line in (tmp_path / "bad").read_text().splitlines()]
    assert [each["value"] for each in bad] == ["bad", "worse"]


CHANGES = [
    pytest.param("events.jsonl", [login("eve"), login("bob")], (), "is not the one that was begun", id="other content"),
    pytest.param("events.jsonl", [login("ada")], (), "is not the one that was begun", id="shorter"),
    pytest.param("events.jsonl", None, ("--format", "keycloak"), "begun with format 'native'", id="another format"),
    pytest.param("events.jsonl", None, ("--source", "b"), "begun with source ''", id="another source"),
    pytest.param("events.jsonl.published", ["nonsense"], (), "is no state of publish", id="no state"),
    pytest.param("events.jsonl.published", [{"version": 1}], (), "is no state of publish", id="half a state"),
]


@pytest.mark.parametrize(("name", "content", "arguments", "why"), CHANGES)
def test_a_state_of_another_input_is_refused(
    kafka: Kafka, tmp_path: Path, name: str, content: list[Any] | None, arguments: tuple[str, ...], why: str
) -> None:
    file = written(tmp_path / "events.jsonl", login("ada"), login("bob"))
    assert kafka.run(file).exit_code == 0
    if content is not None:
        written(tmp_path / name, *content)

    refused = kafka.run(file, *arguments)

    assert refused.exit_code == 1
    assert why in refused.output
    assert len(kafka.sent("login")) == 2


TROUBLE = [
    pytest.param({"AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS", id="away"),
    pytest.param(
        {"AUTHTALLY_TOPICS": "nowhere.1=login"}, "Kafka has no topic nowhere.1 (AUTHTALLY_TOPICS)", id="topic"
    ),
    pytest.param({"AUTHTALLY_TOPICS": "a=token"}, "AUTHTALLY_TOPICS binds no topic to login", id="unbound"),
]


@pytest.mark.parametrize(("settings", "why"), TROUBLE)
def test_what_is_wrong_outside_is_named(
    kafka: Kafka, tmp_path: Path, settings: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.publish.sending.PATIENCE_S", 1.0)
    file = written(tmp_path / "events.jsonl", login("ada"))

    failed = kafka.run(file, **settings)

    assert failed.exit_code == 1
    assert why in failed.output
    assert "0 elements are acknowledged. Run the same command to go on." in failed.output
    assert kafka.run(file).exit_code == 0
    assert len(kafka.sent("login")) == 1


FILES = [
    pytest.param(("missing.jsonl",), "missing.jsonl: No such file", id="no input"),
    pytest.param(("events.jsonl", "--rejects", "no/where"), "--rejects no/where: No such file", id="rejects"),
    pytest.param(("events.jsonl", "--state", "no/where"), "choose another with --state", id="state"),
]


@pytest.mark.parametrize(("arguments", "why"), FILES)
def test_a_file_that_cannot_be_used_is_named(
    kafka: Kafka, tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    written(tmp_path / "events.jsonl", login("ada"))
    failed = kafka.run(*arguments)
    assert failed.exit_code == 1
    assert why in failed.output
    assert kafka.sent("login") == []


def test_what_stands_before_a_broken_end_is_published(kafka: Kafka, tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(json.dumps([login("ada"), login("bob")])[:-1])
    cut = kafka.run(str(path))
    assert cut.exit_code == 1
    assert "is cut off: it has no closing bracket. 1 elements are acknowledged" in cut.output
    path.write_text(json.dumps([login("ada"), login("bob")]))
    assert kafka.run(str(path)).exit_code == 0
    assert sorted(sent.event.user_id for sent in kafka.sent("login")) == ["ada", "bob"]


def test_standard_input_is_resumed_where_a_state_is_kept(kafka: Kafka) -> None:
    lines = b"".join(json.dumps(login(f"u{number}")).encode() + b"\n" for number in range(10))
    assert kafka.run("-", "--state", "s", given=lines[: lines.index(b"u4") + 4]).exit_code == 0
    done = kafka.run("-", "--state", "s", "--json", given=lines)
    assert json.loads(done.stdout)["resumed_at_element"] == 5
    assert len(kafka.sent("login")) == 10


def test_a_signal_ends_a_stream_after_what_came(kafka: Kafka, tmp_path: Path) -> None:
    process = kafka.start(tmp_path, "-", "--state", "s", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    try:
        for number in range(3):
            process.stdin.write(json.dumps(login(f"u{number}")).encode() + b"\n")
        process.stdin.flush()
        wait_until(lambda: len(kafka.sent("login")) == 3, 30)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert b"Published 3 events from 3 elements" in output
    assert json.loads((tmp_path / "s").read_text())["tally"]["elements"] == 3


def test_a_terminal_shows_rate_and_time_left(kafka: Kafka, tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", *(login(f"u{number}") for number in range(20_000)))
    ours, theirs = pty.openpty()
    environment = kafka.child_environment | {"TERM": "xterm", "COLUMNS": "100"}
    command = (sys.executable, "-m", "deploy.command_line", "publish", file)
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=theirs) as child:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65_536):
                shown += chunk
        except OSError:
            # How Linux ends a terminal whose other side has closed.
            pass
        finally:
            os.close(ours)
    assert child.returncode == 0
    assert b"publishing" in shown
    assert b"events/s" in shown


class Dying(io.BytesIO):
    """Standard input whose second chunk comes when the broker has gone."""

    def __init__(self, data: bytes, server: Tansu) -> None:
        super().__init__(data)
        self._server = server
        self._given = False

    def read1(self, size: int | None = -1, /) -> bytes:
        if self._given and self._server.running:
            self._server.kill()
        self._given = True
        return super().read1(2000)


def test_a_broker_that_goes_away_ends_the_run_and_the_next_goes_on(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.publish.sending.MESSAGE_TIMEOUT_S", 2)
    data = b"".join(json.dumps(login(f"u{number}")).encode() + b"\n" for number in range(5000))
    with Tansu() as server:
        create_topics(server.address, dict.fromkeys(kafka.topics, 2))
        failed = kafka.run(
            "-", "--state", "s", given=Dying(data, server), AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS=server.address
        )
    assert failed.exit_code == 1
    assert "Kafka did not" in failed.output
    assert "Run the same command to go on." in failed.output
    stood_at = json.loads((tmp_path / "s").read_text())["tally"]["elements"]
    assert stood_at < 5000

    done = kafka.run("-", "--state", "s", given=data)

    assert done.exit_code == 0, done.output
    sent = {event.event.user_id for event in kafka.sent("login")}
    assert sent == {f"u{number}" for number in range(stood_at, 5000)}


def test_idempotent_producing_is_the_default(apache_kafka: str, tmp_path: Path) -> None:
    kafka = Kafka(apache_kafka, tmp_path.name)
    file = written(tmp_path / "events.jsonl", *(login(f"u{number}") for number in range(1000)))
    done = kafka.run(file, AUTHTALLY_KAFKA_IDEMPOTENCE=None)
    assert done.exit_code == 0, done.output
    assert len(kafka.sent("login")) == 1000


EVENTS = 250_000


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write("[")
        for number in range(EVENTS):
            what = "rubbish" if number % 50_000 == 49_999 else json.dumps(login(f"u{number}"))
            file.write(("," if number else "") + what)
        file.write("]")
    yield path
    path.unlink()


def test_killed_in_the_middle_and_resumed_every_element_counts_once(kafka: Kafka, tmp_path: Path, large: Path) -> None:
    state = Path(f"{large}.published")
    arguments = (str(large), "--rejects", str(tmp_path / "bad"))

    def acknowledged() -> int:
        return int(json.loads(state.read_text())["tally"]["elements"]) if state.exists() else 0

    log = tmp_path / "log"
    command = (sys.executable, "-m", "deploy.command_line", "publish", *arguments)
    child = start_child(command, log, tmp_path, kafka.child_environment)
    try:
        wait_until(lambda: acknowledged() or child.poll() is not None, 60)
        child.kill()
        child.wait(10)
    finally:
        stop_child(child, 5)
    stood_at = acknowledged()
    assert 0 < stood_at < EVENTS, tail(log)

    done = kafka.run(*arguments, "--json")

    told = json.loads(done.stdout)
    assert (done.exit_code, told["resumed_at_element"], told["finished"]) == (1, stood_at, True)
    assert (told["elements"], told["events"]) == (EVENTS, EVENTS - 5)
    users: dict[str, tuple[str, bytes | None]] = {}
    for sent in kafka.sent("login"):
        # What was sent twice has the same id and key, so a worker counts it once.
        assert users.setdefault(sent.event.user_id, (sent.event.id, sent.key)) == (sent.event.id, sent.key)
    assert len(users) == EVENTS - 5
    assert len({event_id for event_id, _ in users.values()}) == EVENTS - 5
    bad = [json.loads(line)["element"] for line in (tmp_path / "bad").read_text().splitlines()]
    assert bad == [49_999 + 50_000 * number for number in range(5)]


def test_what_is_published_twice_is_counted_once(deployment: Deployment, tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", *(login(f"u{number}") for number in range(20)))
    for arguments in ((), ("--restart",)):
        assert deployment.run("publish", file, *arguments).exit_code == 0
    ends = Counter(message.partition() for message in messages(deployment.broker, deployment.topic))
    assert ends.total() == 40
    progress: Counter[str] = Counter()
    for partition, end in ends.items():
        deployment.count_up_to(end, partition)
        found = deployment.redis.hgetall(deployment.keys(partition).progress)
        progress.update({name: int(found.get(name, 0)) for name in ("counted", "duplicates")})
    assert progress == {"counted": 20, "duplicates": 20}
