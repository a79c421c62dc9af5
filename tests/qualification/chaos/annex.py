"""A second deployment beside the cluster, with one store address that moves to the promoted replica."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.demo.servers import Valkey, free_port
from deploy.demo.servers.process import HOST
from tests.qualification.chaos.fleet import Fleet
from tests.qualification.chaos.ledger import Ledger
from tests.qualification.chaos.network import Proxy
from tests.qualification.chaos.prober import Prober
from tests.qualification.chaos.waiting import wait_for
from tests.qualification.chaos.watch import Watch

MOVED: Final = "chaos.moved"
PARTITIONS: Final = 2
EVENTS_PER_S: Final = 500


class Single(Valkey):
    """A store that is primary or replica."""

    name = "single"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, options=("--repl-diskless-sync-delay", "0"))
        self.client: Any = redis.Redis(
            host=HOST, port=self.port, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0)
        )

    @property
    def up(self) -> bool:
        return self.running


class Annex:
    """A primary and its replica behind one address, one worker, one api, a topic with a slow flow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = free_port()
        self.nodes = [Single(folder / f"single-{number}") for number in range(2)]
        self.primary, self.replica = self.nodes
        self._stack = ExitStack()

    def start_store(self) -> None:
        for node in self.nodes:
            self._stack.callback(node.client.close)
            self._stack.enter_context(node)
        self.replica.client.replicaof(HOST, self.primary.port)
        self.wait_until_whole()

    def start(self, bootstrap: str, seed: int, settings: dict[str, str], program: tuple[str, ...]) -> None:
        """Once its topic and its lane of the proxy are there. Raises LateError, RuntimeError."""
        self.ledger = Ledger(bootstrap, {MOVED: "login"}, PARTITIONS, seed, plain=False)
        self.ledger.open(self.ledger.lanes.values())
        own = {
            "redis_url": f"redis://{HOST}:{self.address}",
            "redis_cluster": "false",
            "kafka_group": f"{settings['kafka_group']}-annex",
            "topics": f"{MOVED}=login",
        }
        fleet = Fleet(self._folder / "annex-workers", 1, settings | own, program)
        self._stack.callback(fleet.close)
        self.fleet = fleet
        self.watch = Watch(self.nodes, self.ledger.lanes)
        self._stack.callback(self.watch.close)
        self.prober = Prober(settings | own, 1, self.ledger)
        self._stack.callback(self.prober.close)
        fleet.start()
        self.watch.start()
        self.prober.start()

    def close(self) -> None:
        self._stack.close()

    def whole(self) -> bool:
        """Whether the replica follows the primary."""
        held = self.replica.client.info("replication")
        return bool(
            held["role"] == "slave"
            and held["master_link_status"] == "up"
            and self.primary.client.info("replication")["role"] == "master"
        )

    def wait_until_whole(self) -> None:
        wait_for(self.whole, 60, "the replica follows the primary")

    def move(self, proxy: Proxy, behind_s: float) -> None:
        """Promote the replica, demote the primary after `behind_s`, whose last writes are lost, then move the address.

        Connections that are open stay with the old primary.
        """
        old, new = self.primary, self.replica
        new.client.replicaof("NO", "ONE")
        time.sleep(behind_s)
        old.client.replicaof(HOST, new.port)
        self.primary, self.replica = new, old
        proxy.move(self.address, new.port)
