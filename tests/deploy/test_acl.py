"""The shipped users: each may do what its part of the work needs, and nothing else."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import pytest
import redis
from click.testing import CliRunner
from confluent_kafka import Producer
from redis.crc import key_slot

from api.inventory.policy_history import MAX_CHANGES
from deploy.cli.main import main
from deploy.cli.snapshot.copying import MEMBER, PIECE
from deploy.demo.servers import create_topics
from schemas.ledger import keys
from schemas.ledger.keys import Shard, ShardKeys
from tests.aggregator.inventories import state
from tests.certificates import Authority
from tests.conftest import clustered, wait_until
from tests.integration.api_process import ApiProcess, Reply
from tests.integration.workers import Workers
from tests.stores import USERS, Store

FREE: Final = {"auth", "hello", "quit", "reset"}
"""What everybody may, signed in or not."""
ASKED_BY_WATCHER: Final = {"config|resetstat", "acl|log"}
SERVED: Final = ("worker", "api", "cache", "operator")
RECORDINGS: Final = keys.recordings("authtally:")
LARGE: Final = "authtally:large:"
AGAIN: Final = "authtally:again:"
REFUSED: Final = r"permission|ACL failure|user executing the script can't"
SLOTS: Final = 16_384
TOKEN: Final = "token-of-tests"
RECORDED: Final = [
    *("reporting delete_before", "reporting delete_before", "reporting delete_all", "import-stat"),
    *("import-stat --remove", "positions allow-unexpected"),
    *("positions reset", "snapshot restore", "settings adopt", "dead-letters resend", "realm remove"),
]
"""The audit log after all deletes and commands."""
GIVEN: Final = 5_100
"""Rows that were counted elsewhere: more than one delete takes away at a time."""


def allowed(user: str) -> set[str]:
    line = next(line for line in USERS.read_text().splitlines() if line.startswith(f"user {user} "))
    return {word[1:] for word in line.split() if word.startswith("+")}


class Watch:
    """What a block of work asks of the stores. Fails the test when it is refused anything."""

    def __init__(self, *stores: Store) -> None:
        self._watchers = [store.watcher() for store in stores]
        self.commands: set[str] = set()

    def __enter__(self) -> Self:
        for watcher in self._watchers:
            watcher.acl_log_reset()
            watcher.config_resetstat()
        return self

    def __exit__(self, *_: object) -> None:
        refused = []
        for watcher in self._watchers:
            found = watcher.info("commandstats")
            self.commands |= {name.removeprefix("cmdstat_") for name, result in found.items() if result["calls"]}
            refused += [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in watcher.acl_log()]
            watcher.close()
        self.commands -= FREE | ASKED_BY_WATCHER
        assert refused == []


class Log:
    """Topics of every kind with a day's events, in two parts: what there is changes when there is more."""

    def __init__(self, broker: str, unique: str) -> None:
        self.broker = broker
        kinds = ("login", "token", "account", "otp", "otp-count")
        self.topics = {f"{unique}.{kind}": kind for kind in kinds}
        self.dead_letters = f"{unique}.dead"
        self.settings = {
            "kafka_bootstrap_servers": broker,
            "kafka_group": unique,
            "kafka_idempotence": "off",
            "topics": ",".join(f"{topic}={kind}" for topic, kind in self.topics.items()),
            "dead_letter_topic": self.dead_letters,
            "user_hash_key": "a key for nothing but tests",
            "exact_up_to": "20",
            "dedupe_window_s": "3600",
        }
        create_topics(broker, dict.fromkeys([*self.topics, self.dead_letters], 1))
        self.ends = dict.fromkeys(self.topics, 0)
        # A day that is over in every time zone: the api merges it over the shards.
        self.day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)

    def write(self, part: int) -> None:
        producer: Any = Producer({"bootstrap.servers": self.broker, "linger.ms": 5, "log_level": 0})
        for topic, kind in self.topics.items():
            for event in self._events(kind, part):
                # Two hours apart: the second part's records find the first one's ids out of the window.
                at = self.day + timedelta(hours=2 * part)
                producer.produce(topic, json.dumps(event).encode(), partition=0, timestamp=int(at.timestamp() * 1000))
                self.ends[topic] += 1
        producer.produce(next(iter(self.topics)), b"nope", partition=0)
        self.ends[next(iter(self.topics))] += 1
        assert producer.flush(30) == 0

    def _events(self, kind: str, part: int) -> Iterator[Mapping[str, object]]:
        at = {"time": self.day.isoformat(), "realm": "acme", "client_id": "web"}
        numbers = range(100 * part, 100 * part + 100)
        if kind == "login":
            yield from ({**at, "user_id": f"user-{number}", "id": f"event-{number}"} for number in numbers)
        elif kind == "token":
            yield {**at, "grant_type": "client_credentials", "tokens": ["access_token"]}
            # Few: who asks for all adds them to the logins' sketches.
            refresh = {**at, "grant_type": "refresh_token", "tokens": ["access_token"]}
            yield from ({**refresh, "user_id": f"user-{number}"} for number in numbers[:5])
        elif kind == "account":
            yield {"time": at["time"], "realm": "acme", "kind": "signup"}
        elif kind == "otp":
            for number in range(300 * part, 300 * part + 300):
                time = (self.day + timedelta(seconds=number)).isoformat()
                user = {} if part else {"user_id": f"user-{number % 50}"}
                yield state(time, f"{number % 300}", "token_assign", "acme", **user)
        else:
            row = {"realm": "globex", "event": "token_init", "status": "total"}
            for number in range(GIVEN * part, GIVEN * part + GIVEN):
                yield {**row, "time": (self.day + timedelta(seconds=number)).isoformat(), "count": number}


def count(log: Log, folder: Path, settings: dict[str, str]) -> None:
    """All that was written, by a worker of its own process."""
    with Workers(folder, **log.settings, **settings) as workers:
        worker = workers.start().wait_until_ready()
        for part in range(2):
            log.write(part)

            def counted() -> bool:
                at = {topic: worker.metric("authtally_position_offset", topic=topic) for topic in log.topics}
                return at == log.ends

            wait_until(counted, 60, f"all of {log.ends} is counted")
        worker.stop()


def answered(api: ApiProcess, path: str) -> Reply:
    """Whatever is answered once the store was quick enough for the api, which waits for half a second only."""
    replies: list[Reply] = []

    def quick() -> bool:
        replies.append(api.get(path, TOKEN))
        return replies[-1].status != 503

    wait_until(quick, 30, path)
    return replies[-1]


def ask(folder: Path, day: datetime, settings: dict[str, str]) -> None:
    """One question of each kind, in every dialect; sessions, limits, and deletes at the end."""
    bearer = {"sha256": sha256(TOKEN.encode()).hexdigest(), "subject": "tests"}
    scopes = ["jans_stat", "read:stats", "reporting", "stats:read", "metrics:read"]
    (folder / "tokens.json").write_text(json.dumps([{**bearer, "scopes": scopes}]))
    recorded = "[record]\nrealm = *\nscope = reporting\naction = token_total, token_status=active\n"
    (folder / "policies.ini").write_text(recorded)
    settings = settings | {
        "auth": "static",
        "auth_tokens_file": str(folder / "tokens.json"),
        "reporting_policy_file": str(folder / "policies.ini"),
        "exact_up_to": "20",
        # Each question reaches the ledger.
        **dict.fromkeys(("cache_ttl_s", "auth0_cache_ttl_s", "gluu_interval_s", "janssen_cache_ttl_s"), "1"),
    }
    month, this = f"{day:%Y%m}", f"{day:%Y-%m-%d}"
    window = f"from={this}&to={this}"
    with ApiProcess(**settings) as api:
        session = answered(api, "/admin/getsession")
        assert session.status == 200, session.text
        key = session.headers["Set-Cookie"].partition("admin_session=")[2].partition(";")[0]
        for path in (
            "/health/ready",
            "/jans-auth/sys/health-check",
            f"/jans-auth/restv1/internal/stat?month={month}",
            f"/jans-auth/restv1/internal/stat?start-month={month}&end-month={month}&format=openmetrics",
            f"/oxauth/restv1/internal/stat?month={month}",
            "/api/v2/stats/active-users",
            f"/api/v2/stats/daily?from={day:%Y%m%d}&to={day:%Y%m%d}",
            f"/v1/active-users?{window}",
            f"/v1/active-users?{window}&granularity=range&group_by=realm",
            "/v1/lifecycle",
            "/v1/lifecycle?granularity=week",
            "/v1/retention?cohort=new",
            f"/v1/overview?date={this}",
            f"/v1/logins?{window}&group_by=realm",
            f"/v1/tokens?{window}",
            f"/v1/accounts?{window}",
            "/v1/m2m",
            "/v1/pipeline",
            "/v1/metrics",
            "/v1/otp-tokens",
            f"/v1/otp-tokens?{window}",
            "/reporting/maximum",
            f"/reporting/period?{window}",
            "/reporting/show?page=3&pagesize=50",
            "/reporting/show?page=1&pagesize=50&sortdir=desc",
            f"/reporting/delete_before?date={this}&status=total",
            f"/reporting/delete_before?date={day + timedelta(days=1):%Y-%m-%d}&realm=globex&status=total",
            "/reporting/delete_all?status=*",
        ):
            answer = answered(api, path)
            assert answer.status == 200, (path, answer.text)
            assert '"status":false' not in answer.text.replace(" ", ""), (path, answer.text)
        leave = urllib.request.Request(
            f"http://{api.address}/admin/dropsession?session={key}", headers={"Cookie": f"admin_session={key}"}
        )
        with urllib.request.urlopen(leave, timeout=10) as dropped:
            assert dropped.status == 200


def operate(log: Log, folder: Path, settings: dict[str, str], make_anew: Callable[[], object]) -> None:
    """Each command that an operator has for the ledger. `make_anew` changes the topic id of its first shard."""
    environment = {f"AUTHTALLY_{name.upper()}": value for name, value in (log.settings | settings).items()}

    def run(*words: str, exits: tuple[int, ...] = (0,), **more: str) -> str:
        result = environment | {f"AUTHTALLY_{name.upper()}": value for name, value in more.items()}
        done = CliRunner().invoke(main, words, env=result)
        assert done.exit_code in exits, (words, done.output, done.exception)
        return done.output

    topic = next(iter(log.topics))
    assert topic in run("positions", "show")
    answer = {"202001": {"monthly_active_users": 5, "token_count_per_granttype": {}}}
    (folder / "months.json").write_text(json.dumps({"response": answer}))
    run("import-stat", "months.json")
    run("import-stat", "--remove", "2020-01")
    run("snapshot", "save", "ledger.snapshot")
    run("snapshot", "verify", "ledger.snapshot")
    run("positions", "allow-unexpected", topic, "0", "200")
    run("positions", "rebuild-index", "--all", "--yes")
    make_anew()
    assert "created again" in run("positions", "reset", topic, "0", "--to", "latest", "--yes")
    run("snapshot", "restore", "--yes", "ledger.snapshot", "--replace")
    run("snapshot", "save", "large.snapshot", key_prefix=LARGE)
    run("snapshot", "restore", "--yes", "--without-kafka", "large.snapshot", key_prefix=AGAIN)
    run("settings", "adopt", "--yes", max_labels="7")
    run("dead-letters", "resend", "--yes")
    assert "OTP tokens" in run("realm", "remove", "acme", "--yes")
    entries = json.loads(run("audit", "--last", "1000", "--json"))["entries"]
    assert [entry["action"] for entry in entries] == RECORDED
    assert {entry["actor"] for entry in entries if entry["action"].startswith("reporting")} == {"subject tests"}
    assert {entry["actor"][:3] for entry in entries if not entry["action"].startswith("reporting")} == {"os "}
    numbers = {entry["action"]: entry["number"] for entry in entries}
    assert numbers["reporting delete_before"] > 0, "the last of the two deletes rows"
    assert (numbers["import-stat"], numbers["positions allow-unexpected"]) == (1, 200)
    # It finds faults, of a broker without idempotence and of a store without a disk.
    assert "clock.redis" in run("doctor", "--json", exits=(0, 1), auth="none")


@pytest.fixture(scope="module")
def redis_7(redis_7_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """By TLS only."""
    with Store(binary=redis_7_binary, authority=Authority(tmp_path_factory.mktemp("authority"))) as store:
        yield store


@pytest.fixture(scope="module")
def valkeys() -> Iterator[tuple[Store, ...]]:
    """A Cluster of two masters."""
    with clustered(Store) as stores:
        yield stores


class Site:
    """A store, what is counted into it, and what each user asked of it."""

    def __init__(self, broker: str, folder: Path, *stores: Store, **settings: str) -> None:
        self._log, self._folder, self._stores = Log(broker, f"acl{uuid.uuid4().hex[:8]}"), folder, stores
        self._settings = settings | stores[0].settings
        self.asked: dict[str, set[str]] = {}
        (folder / "api").mkdir(parents=True)

    def _as_user(self, user: str) -> dict[str, str]:
        return self._settings | {"redis_url": self._stores[0].url_of(user)}

    def serve(self) -> None:
        """By worker and api. May run beside another site's."""
        with Watch(*self._stores) as by_worker:
            count(self._log, self._folder / "workers", self._as_user("worker"))
        self._fill_recordings()
        with Store() as apart, Watch(*self._stores) as by_api, Watch(apart) as by_cache:
            ask(self._folder / "api", self._log.day, self._as_user("api") | {"cache_redis_url": apart.url_of("cache")})
        self.asked |= {"worker": by_worker.commands, "api": by_api.commands, "cache": by_cache.commands}

    def operate(self) -> None:
        self._fill_large()
        shard_keys = ShardKeys("authtally:", Shard(next(iter(self._log.topics)), 0))
        with self._holder_of(shard_keys.meta) as watcher:
            # Signed in before the watch begins, which would see it.
            watcher.ping()
            with Watch(*self._stores) as by_operator, contextlib.chdir(self._folder):
                operate(
                    self._log,
                    self._folder,
                    self._as_user("operator"),
                    lambda: watcher.hset(shard_keys.meta, "topic_id", "another"),
                )
        self.asked["operator"] = by_operator.commands

    def _holder_of(self, key: str) -> Any:
        """A client of the store that holds a key."""
        if len(self._stores) == 1:
            return self._stores[0].watcher()
        return self._stores[key_slot(key.encode()) >= SLOTS // 2].watcher()

    def _fill_large(self) -> None:
        """A ledger with more in each kind of key than is read or written at a time."""
        shard_keys = ShardKeys(LARGE, Shard("elsewhere", 0))
        many = [str(number) for number in range(2 * PIECE // MEMBER)]
        with self._holder_of(shard_keys.position) as watcher:
            watcher.set(shard_keys.position, 7)
            watcher.set(shard_keys.ids_of(1), bytes(2 * PIECE))
            watcher.hset(shard_keys.tokens, mapping=dict.fromkeys(many, "state"))
            watcher.sadd(shard_keys.labels, *many)
            watcher.zadd(shard_keys.external_rows(0, 0), dict.fromkeys(many, 1))
        with self._holder_of(keys.shards(LARGE)) as watcher:
            watcher.sadd(keys.shards(LARGE), shard_keys.shard.tag)
        with self._holder_of(keys.recordings(LARGE)) as watcher:
            watcher.rpush(keys.recordings(LARGE), "1 []")

    def _fill_recordings(self) -> None:
        """As many changes as are kept: the next one takes the place of one."""
        with self._holder_of(RECORDINGS) as watcher:
            watcher.rpush(RECORDINGS, *(f"{number} []" for number in range(MAX_CHANGES + 1)))


def test_each_command_is_allowed_that_the_work_asks_for_and_no_other(
    redis_7: Store, valkeys: tuple[Store, ...], broker: str, tmp_path: Path
) -> None:
    """On Redis 7 by TLS, and on Valkey as Cluster: in one of the two each command of the file is used."""
    sites = [
        Site(broker, tmp_path / "alone", redis_7),
        Site(broker, tmp_path / "cluster", *valkeys, redis_cluster="on"),
    ]
    with ThreadPoolExecutor(len(sites)) as pool:
        for done in [pool.submit(site.serve) for site in sites]:
            done.result()
    for site in sites:
        site.operate()
    for user in SERVED:
        assert set.union(*(site.asked[user] for site in sites)) == allowed(user), user


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("worker", ("FLUSHALL",)),
        ("worker", ("KEYS", "*")),
        ("worker", ("CONFIG", "GET", "requirepass")),
        ("worker", ("GET", "somebody:else")),
        ("worker", ("HGETALL", "authtally:imported")),
        ("worker", ("EVAL", "return redis.call('GET', 'somebody:else')", 0)),
        ("worker", ("EVAL", "return redis.call('FLUSHALL')", 0)),
        ("worker", ("PUBLISH", "channel", "text")),
        ("api", ("SET", "authtally:{auth.logins-0}:position", "7")),
        ("api", ("HSET", "authtally:{auth.logins-0}:counts:2026-11:all", "login", "7")),
        ("api", ("SADD", "authtally:shards", "auth.logins-9")),
        ("api", ("EVAL", "return redis.call('SET', KEYS[1], '7')", 1, "authtally:{auth.logins-0}:position")),
        ("api", ("GET", "somebody:else")),
        ("api", ("SCRIPT", "FLUSH")),
        ("cache", ("GET", "authtally:{auth.logins-0}:position")),
        ("cache", ("HGETALL", "authtally:imported")),
        ("operator", ("FLUSHALL",)),
        ("operator", ("GET", "somebody:else")),
        ("operator", ("ACL", "SETUSER", "operator", "+@all")),
    ],
)
def test_everything_else_is_refused(redis_7: Store, valkeys: tuple[Store, ...], user: str, command: Any) -> None:
    for store in (redis_7, valkeys[0]):
        with store.connect(user) as client, pytest.raises(redis.ResponseError, match=REFUSED):
            client.execute_command(*command)


def test_no_one_signs_in_without_a_password_of_their_own(redis_7: Store, tmp_path: Path) -> None:
    with redis_7.connect("default") as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    # As shipped no user has a password, so that none can sign in at all.
    assert not [word for word in USERS.read_text().split() if word.startswith((">", "#", "nopass"))]


def test_passwords_are_given_by_files(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("a password\n")
    script = USERS.with_name("with_passwords.sh")
    done = subprocess.run((script, tmp_path), capture_output=True, text=True, check=True, timeout=10)
    lines = done.stdout.splitlines()
    assert [line.partition(" #")[0] for line in lines] == USERS.read_text().splitlines()
    hashes = {line.split()[1]: line.partition(" #")[2] for line in lines}
    assert hashes.pop("worker") == sha256(b"a password").hexdigest()
    assert not any(hashes.values())
    with Store() as store:
        store.stop()
        (store.folder / "users.acl").write_text(done.stdout + "user watcher on nopass ~* &* +@all\n")
        store.start()
        with redis.Redis(port=store.port, username="worker", password="a password") as client:
            assert client.exists("authtally:{x-0}:position") == 0
        with store.connect("api") as client, pytest.raises(redis.AuthenticationError):
            client.ping()
