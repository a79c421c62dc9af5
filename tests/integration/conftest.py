"""Sites for tests, on the embedded broker and on Apache Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from deploy.demo.servers import Valkey
from tests.integration.sites import Broker, Site


class MakeSite(Protocol):
    def __call__(
        self,
        broker: Broker,
        partitions: int = 3,
        store: Valkey | None = None,
        dead_letter_config: Any = None,
        **settings: str,
    ) -> Site: ...


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    """Makes a site: a fresh store (unless one is given), topics, a group. Its workers end with the test."""
    with ExitStack() as stack:

        def make(
            broker: Broker,
            partitions: int = 3,
            store: Valkey | None = None,
            dead_letter_config: Any = None,
            **settings: str,
        ) -> Site:
            store = store or stack.enter_context(Valkey())
            tag = f"t{uuid.uuid4().hex[:8]}"
            site = Site(broker, store, tmp_path / tag, tag, partitions, settings, dead_letter_config)
            stack.callback(site.close)
            stack.enter_context(site.workers)
            return site

        yield make


@pytest.fixture
def embedded(broker: str) -> Broker:
    return Broker(broker, apache=False)


@pytest.fixture
def apache(apache_kafka: str) -> Broker:
    return Broker(apache_kafka, apache=True)


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.apache_kafka)])
def each_broker(request: pytest.FixtureRequest) -> Any:
    """The test runs on the embedded broker and on Apache Kafka."""
    return request.getfixturevalue(request.param)
