"""Fixtures of real servers, and the rule that a skipped test fails in CI."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pytest
import redis
import structlog
from hypothesis import settings

from deploy.demo.servers import Tansu, Valkey, create_topics
from deploy.demo.servers.process import HOST
from tests.servers import ApacheKafka, JavaMissingError

# A busy machine exceeds Hypothesis' 200 ms for one example, mostly where files are written.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")

POLL_S = 0.02
Server = TypeVar("Server", bound=Valkey)


def wait_until(predicate: Callable[[], object], timeout_s: float = 30, what: str = "") -> None:
    """Return as soon as `predicate()` is true; fail the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:g} s: {what or predicate}")
        time.sleep(POLL_S)


async def wait_until_async(predicate: Callable[[], object], timeout_s: float = 10, what: str = "") -> None:
    """`wait_until` that lets the event loop run meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:g} s: {what or predicate}")
        await asyncio.sleep(POLL_S)


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Restores the logging configuration after each test: some tests let a service change it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """One Valkey for the session. A test that kills or fills a server starts its own."""
    with Valkey() as server:
        yield server


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The URL of an empty database."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
        client.config_resetstat()
    return valkey.url


@pytest.fixture(scope="session")
def redis_7_binary() -> Path:
    """Debian's Redis 7, which supports TLS; the embedded Valkey does not."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on PATH: tests/servers/install_test_servers.sh installs it")
    return Path(binary)


@pytest.fixture(scope="session")
def tansu() -> Iterator[Tansu]:
    with Tansu() as server:
        yield server


@pytest.fixture
def broker(tansu: Tansu) -> str:
    """Bootstrap address of the embedded broker: no idempotent or transactional producers, no DeleteRecords."""
    return tansu.address


@pytest.fixture(scope="session")
def apache_kafka_server() -> Iterator[ApacheKafka]:
    try:
        server = ApacheKafka()
    except JavaMissingError as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
def apache_kafka(apache_kafka_server: ApacheKafka) -> str:
    """Bootstrap address of a real Apache Kafka; the test is marked `apache_kafka`, and skipped without Java."""
    return apache_kafka_server.address


class CreateTopic(Protocol):
    def __call__(
        self, bootstrap: str, partitions: int = 1, name: str = "events", config: Mapping[str, str] | None = None
    ) -> str: ...


@pytest.fixture
def create_topic() -> CreateTopic:
    """Creates a topic named `name` with a random suffix, and returns the full name."""

    def create(
        bootstrap: str, partitions: int = 1, name: str = "events", config: Mapping[str, str] | None = None
    ) -> str:
        unique = f"{name}.{uuid.uuid4().hex[:8]}"
        create_topics(bootstrap, {unique: partitions}, config)
        return unique

    return create


SERVERS: Final = {"valkey", "redis_7_binary", "tansu", "apache_kafka_server", "cluster", "demo", "server"}
"""Fixtures that start a server or need an installed one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            if "apache_kafka_server" in item.fixturenames:
                item.add_marker("apache_kafka")
            if SERVERS.intersection(item.fixturenames):
                item.add_marker("servers")


def in_ci() -> bool:
    return bool(os.environ.get("CI"))


def _refuse_skip(report: Any) -> None:
    # pytest also reports an expected failure as skipped.
    if report.skipped and in_ci() and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped in CI, which counts as a failure: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


SLOTS = 16_384
"""Of a Redis Cluster."""


@contextmanager
def clustered(kind: type[Server], number: int = 2) -> Iterator[tuple[Server, ...]]:
    """A cluster of masters that share the slots."""
    with ExitStack() as opened:
        servers = [kind(options=("--cluster-enabled", "yes")) for _ in range(number)]
        for server in servers:
            opened.enter_context(server)
        nodes: list[Any] = [opened.enter_context(redis.Redis.from_url(server.url)) for server in servers]
        for place, node in enumerate(nodes):
            first, end = SLOTS * place // number, SLOTS * (place + 1) // number
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for server in servers[1:]:
            nodes[0].execute_command("CLUSTER MEET", HOST, server.port, server.bus_port)
        wait_until(lambda: all(node.cluster("info")["cluster_state"] == "ok" for node in nodes), 30, "a cluster")
        yield tuple(servers)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two masters; the URL of one."""
    with clustered(Valkey) as (one, *_):
        yield one.url
