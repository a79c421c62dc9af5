"""One deployment for the raw requests, slow clients and bombs of a module."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from api.__main__ import _not_our_fault
from deploy.demo.servers import Valkey
from tests.api.conftest import clock, serve
from tests.attacks import deployment
from tests.attacks.deployment import Target

__all__ = ["clock", "no_faults", "plain_target", "serve"]


class Faults(logging.Handler):
    """What the server logged as a fault of its own or ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.addFilter(_not_our_fault)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


@pytest.fixture
def no_faults() -> Iterator[None]:
    """An attack that made one fails its test, whatever it was answered."""
    server, handler = logging.getLogger("aiohttp.server"), Faults()
    server.addHandler(handler)
    server.propagate = False
    yield
    server.propagate = True
    server.removeHandler(handler)
    assert not handler.seen, handler.seen[0]


@pytest.fixture(scope="module")
def plain_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """No Kafka: nothing goes in."""
    with Valkey() as store:
        deployment.seed(store.url)
        with deployment.deployed(store.url, tmp_path_factory.mktemp("attacked")) as found:
            yield found
