"""`authtally publish` continues where it ended: each element arrives at least once, under the same id."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import Tansu, create_topics
from deploy.demo.servers.process import start_child, stop_child, tail
from tests.conftest import wait_until
from tests.deploy.conftest import Deployment
from tests.deploy.publishing import Kafka, login, messages, written


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
    pytest.param(
        "events.jsonl",
        [login("eve"), login("bob")],
        (),
        "is another input than that of the first run",
        id="other content",
    ),
    pytest.param("events.jsonl", [login("ada")], (), "is another input than that of the first run", id="shorter"),
    pytest.param("events.jsonl", None, ("--format", "keycloak"), "first run used format 'native'", id="another format"),
    pytest.param("events.jsonl", None, ("--source", "b"), "first run used source ''", id="another source"),
    pytest.param("events.jsonl.published", ["nonsense"], (), "is not a state file of publish", id="no state"),
    pytest.param("events.jsonl.published", [{"version": 1}], (), "is not a state file of publish", id="half a state"),
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


def test_what_stands_before_a_broken_end_is_published(kafka: Kafka, tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(json.dumps([login("ada"), login("bob")])[:-1])
    cut = kafka.run(str(path))
    assert cut.exit_code == 1
    assert "is truncated: it has no closing bracket. 1 elements are acknowledged" in cut.output
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


def test_a_broker_that_goes_away_ends_the_run_and_the_next_continues(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.cli.publish.sending.MESSAGE_TIMEOUT_S", 2)
    data = b"".join(json.dumps(login(f"u{number}")).encode() + b"\n" for number in range(5000))
    with Tansu() as server:
        create_topics(server.address, dict.fromkeys(kafka.topics, 2))
        failed = kafka.run(
            "-", "--state", "s", given=Dying(data, server), AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS=server.address
        )
    assert failed.exit_code == 1
    assert "Kafka did not" in failed.output
    assert "Run the same command to continue." in failed.output
    stood_at = json.loads((tmp_path / "s").read_text())["tally"]["elements"]
    assert stood_at < 5000

    done = kafka.run("-", "--state", "s", given=data)

    assert done.exit_code == 0, done.output
    sent = {event.event.user_id for event in kafka.sent("login")}
    assert sent == {f"u{number}" for number in range(stood_at, 5000)}


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
    command = (sys.executable, "-m", "deploy.cli.main", "publish", *arguments)
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

    result = json.loads(done.stdout)
    assert (done.exit_code, result["resumed_at_element"], result["finished"]) == (1, stood_at, True)
    assert (result["elements"], result["events"]) == (EVENTS, EVENTS - 5)
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
