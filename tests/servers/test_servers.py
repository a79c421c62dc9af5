"""Each server starts, serves, survives a kill on its own folder, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.demo.servers import ServerError, Tansu, Valkey, create_topics
from deploy.demo.servers.process import ServerProcess, accepts
from deploy.demo.servers.topics import admin
from tests.conftest import wait_until
from tests.servers import ApacheKafka, JavaMissingError, apache_kafka


def runs(pid: int) -> bool:
    """Whether a process exists and has not ended (a zombie has)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home directory that must be empty at the end as well."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = tmp_path / "home"
    home.mkdir()
    yield home
    assert list(home.iterdir()) == []


def produce_and_read(bootstrap: str, topic: str, value: bytes) -> bytes:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value, partition=0)
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        read = message.value()
        assert isinstance(read, bytes)
        return read
    finally:
        consumer.close()


def test_valkey_keeps_its_data_through_a_kill_when_persistent(home: Path) -> None:
    with Valkey(options=("--appendonly", "yes", "--appendfsync", "always"), password="secret") as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("name", "kept")
        before = server.pid
        server.kill()
        assert not runs(before)
        server.start()
        assert server.pid != before
        with redis.Redis.from_url(server.url) as client:
            assert client.get("name") == b"kept"
        with (
            redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
    assert not runs(server.pid)
    assert not server.folder.exists()


def test_valkey_listens_on_loopback_only_and_never_evicts(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_given_folder_stays(tmp_path: Path, home: Path) -> None:
    with Valkey(folder=tmp_path / "store") as server:
        assert server.running
    assert (tmp_path / "store" / "valkey.log").exists()


def test_tansu_serves_records_and_topic_ids(home: Path) -> None:
    with Tansu() as server:
        create_topics(server.address, {"events": 2})
        assert produce_and_read(server.address, "events", b"one") == b"one"
        server.kill()
        assert not runs(server.pid)
        server.start()
        assert "events" not in admin(server.address).list_topics(timeout=5).topics
    assert not runs(server.pid)
    assert not server.folder.exists()


@pytest.mark.apache_kafka
@pytest.mark.usefixtures("home")
def test_apache_kafka_keeps_its_log_through_a_kill(tmp_path: Path) -> None:
    try:
        server = ApacheKafka(folder=tmp_path / "kafka", properties={"message.max.bytes": "123456"})
    except JavaMissingError as missing:
        pytest.skip(str(missing))
    with server:
        create_topics(server.address, {"events": 1})
        assert produce_and_read(server.address, "events", b"one") == b"one"
        server.kill()
        assert not runs(server.pid)
        server.start()
        assert produce_and_read(server.address, "events", b"two") == b"one"
        assert "message.max.bytes=123456" in (server.folder / "server.properties").read_text()
    assert not runs(server.pid)


def test_a_server_that_does_not_come_up_says_why_with_its_log() -> None:
    with (
        pytest.raises(ServerError, match=r"(?s)valkey ended with 1:.*no-such-option"),
        Valkey(options=("--no-such-option", "1")),
    ):
        pass


def test_a_taken_port_is_named() -> None:
    with (
        Valkey() as first,
        pytest.raises(ServerError, match=f"port {first.port} is in use"),
        Valkey(port=first.port),
    ):
        pass


@pytest.mark.parametrize("missing", ["java", "mvn"])
def test_missing_java_or_maven_has_an_error_of_its_own(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "java").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path) if missing == "mvn" else "/nowhere")
    monkeypatch.setattr(apache_kafka, "JARS", tmp_path / "jars")
    with pytest.raises(JavaMissingError, match=f"no `{missing}` on PATH"):
        ApacheKafka()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("server", [Valkey, Tansu])
def test_no_server_outlives_a_killed_parent(server: type[ServerProcess], tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            f"from pathlib import Path; from deploy.demo.servers import {server.__name__} as Server\n"
            f"server = Server(folder=Path({str(tmp_path)!r})).start()\n"
            "print(server.pid, server.port, flush=True)\ninput()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid, port = map(int, parent.stdout.readline().split())
    assert accepts(port)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    # A process shows as ended a moment before its last thread has let go of the socket.
    wait_until(lambda: not runs(pid) and not accepts(port), 5)
