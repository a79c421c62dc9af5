"""Hostile requests to every surface: no 500, no internal detail in an answer, nothing forged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from random import Random

import pytest

from deploy.demo.servers import Tansu, Valkey, create_topics
from tests.attacks import deployment, rules
from tests.attacks.deployment import WEBHOOK, Target
from tests.attacks.requests import SURFACES, Sent, request
from tests.attacks.wire import ClosedError, Connection

pytestmark = pytest.mark.usefixtures("no_faults")

TRIES = 5
QUICK = 300
LONG = 6_000
"""Of each surface, in both shapes: 108,000 in all."""
TOPICS = {"fuzz.logins": "login", "fuzz.tokens": "token", "fuzz.accounts": "account"}


@pytest.fixture(scope="module", params=["documented", "source"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    # Not through fixtures of single tests: one deployment meets all of them.
    folder = tmp_path_factory.mktemp("attacked")
    with Valkey() as store, Tansu() as broker:
        create_topics(broker.address, dict.fromkeys(TOPICS, 1))
        deployment.seed(store.url)
        shapes = {f"{product}_shape": request.param for product in ("janssen", "gluu", "linotp")}
        kafka = {"kafka_bootstrap_servers": broker.address, "kafka_idempotence": False, "topics": TOPICS}
        webhooks = {f"ingest_{name}_secret": WEBHOOK for name in ("keycloak", "auth0", "fusionauth")}
        with deployment.deployed(
            store.url, folder, ingest=True, gluu_interval_s=0, live_listeners=64, **shapes, **kafka, **webhooks
        ) as found:
            yield found


class Client:
    """Keeps a connection for as long as the server does."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Connection | None = None

    def send(self, sent: Sent) -> None:
        connection = self._connection
        if connection is None or not connection.usable:
            self.close()
            connection = self._connection = Connection(self._target.address)
        try:
            reply = connection.ask(sent.raw, sent.method)
            # A store on a busy machine may miss its half second; one that is well answers the next time.
            for _ in range(TRIES):
                if reply.status != 503 or not connection.usable or sent.path in rules.UNAVAILABLE:
                    break
                reply = connection.ask(sent.raw, sent.method)
        except ClosedError:
            self.close()
            return
        except (AssertionError, TimeoutError):
            self.close()
            raise
        rules.keep(reply, sent.path, sent.method)
        # What a request carries on past its end is a request of its own.
        if not connection.usable or reply.status in (400, 413, 417):
            self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def attack(target: Target, surface: str, chances: Iterable[Random]) -> None:
    with closing(Client(target)) as client:
        for chance in chances:
            sent = request(chance, SURFACES[surface])
            try:
                client.send(sent)
            except (AssertionError, ValueError, TimeoutError) as error:
                raise AssertionError(f"{sent.raw!r}: {error}") from error


@pytest.mark.parametrize("surface", SURFACES)
def test_every_answer_keeps_the_rules(target: Target, surface: str) -> None:
    attack(target, surface, map(Random, range(QUICK)))


@pytest.mark.chaos
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("surface", SURFACES)
def test_every_answer_keeps_the_rules_for_long(target: Target, surface: str) -> None:
    attack(target, surface, map(Random, range(QUICK, QUICK + LONG)))
