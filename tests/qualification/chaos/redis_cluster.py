"""A Redis Cluster of real servers: three primaries, each with a replica, everything on disk, clients by a proxy."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.demo.servers import ServerError, Valkey, free_port
from deploy.demo.servers.process import HOST
from tests.qualification.chaos.append_only import commands
from tests.qualification.chaos.waiting import wait_for

PRIMARIES: Final = 3
SLOTS: Final = 16_384
NODE_TIMEOUT_MS: Final = 1500
"""How long a primary may be silent before its replica takes over."""

NOT_TO_SIGN_IN: Final = "no such password"


class Owner(NamedTuple):
    """Who holds a slot: node numbers."""

    primary: int
    replicas: list[int]


class Node(Valkey):
    """One node. `announced` is the port that clients get."""

    name = "node"
    # Of a log of hundreds of megabytes that is never made anew, while all else has the machine.
    start_timeout_s = 150

    def __init__(self, folder: Path, announced: int, environment: Mapping[str, str]) -> None:
        # The bus would be at the port + 10,000, where somebody else may be.
        super().__init__(
            folder,
            options=(
                *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-announce-client-port", str(announced)),
                *("--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0"),
                # The log is never made anew, so that any byte of it may be cut off.
                *("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"),
                # With no moment set at all, a failed snapshot would not stop writes.
                *("--save", "86400 1000000000"),
            ),
        )
        self.announced = announced
        self._environment = environment
        self.bus = int(self.options[self.options.index("--cluster-port") + 1])
        self.client: Any = redis.Redis(
            host=HOST, port=self.port, decode_responses=True, socket_timeout=2, retry=Retry(NoBackoff(), 0)
        )
        self.paused = False

    def ask(self, *command: Any) -> Any:
        """The answer, errors of the server included. Raises ConnectionError, TimeoutError."""
        try:
            return self.client.execute_command(*command)
        except redis.ResponseError as error:
            return error

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self._environment}

    @property
    def up(self) -> bool:
        return self.running and not self.paused

    def start(self) -> Self:
        try:
            return super().start()
        except ServerError as error:
            # After a full disk it may have left half a command in the middle of its log: what operators cut off.
            if "Bad file format" not in str(error):
                raise
            self._repair()
            return super().start()

    def _repair(self) -> None:
        file = self.log_of_commands()
        os.truncate(file, max((end for end, _ in commands(file.read_bytes())), default=0))

    def pause(self) -> None:
        super().pause()
        self.paused = True

    def resume(self) -> None:
        super().resume()
        self.paused = False

    def read(self, key: str) -> str | None:
        """What it holds, whether primary or replica. Raises RedisError when it holds nothing of that slot."""
        with redis.Redis(host=HOST, port=self.port, decode_responses=True, socket_timeout=2) as client:
            pipeline: Any = client.pipeline(transaction=False)
            found: list[str | None] = pipeline.execute_command("READONLY").get(key).execute()
        return found[1]

    @property
    def rewrites(self) -> bool:
        """Whether it makes its log of commands anew."""
        found = self.client.info("persistence")
        return bool(found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])

    def log_of_commands(self) -> Path:
        """The newest file of its append-only log."""
        return max((self.folder / "appendonlydir").glob("*.incr.aof"), key=lambda file: int(file.name.split(".")[-3]))

    @contextlib.contextmanager
    def full_disk(self, room: int) -> Iterator[None]:
        """No file of its may grow past its log of commands and `room` bytes: writing fails as on a full disk."""
        limit = self.log_of_commands().stat().st_size + room
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            yield
        finally:
            if self.running:
                resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class RedisCluster:
    """Node `n` < PRIMARIES begins as a primary, node `n + PRIMARIES` as its replica."""

    def __init__(self, folder: Path, announced: Sequence[int], environments: Sequence[Mapping[str, str]]) -> None:
        """`environments` are what each node sees besides its own."""
        self.nodes = [
            Node(folder / f"node-{number}", port, environment)
            for number, (port, environment) in enumerate(zip(announced, environments, strict=True))
        ]
        self._by_port: dict[int, int] = {}

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for node in others:
            first.ask("CLUSTER", "MEET", HOST, node.port, node.bus)
        share = SLOTS // PRIMARIES + 1
        for number, node in enumerate(self.nodes[:PRIMARIES]):
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
        ids = self.ids()
        for node, primary in zip(self.nodes[PRIMARIES:], ids, strict=False):
            wait_for(partial(_follows, node, primary), 30, "a replica")
        wait_for(self.whole, 30, "the cluster is whole")
        return self

    def ids(self) -> list[str]:
        return [str(node.ask("CLUSTER", "MYID")) for node in self.nodes]

    def whole(self) -> bool:
        """Whether every node is up, agrees that all slots are served, and each primary has its replica in step."""
        try:
            return all(node.up and _in_order(node) for node in self.nodes) and self._replicated()
        except redis.RedisError:
            return False

    def _replicated(self) -> bool:
        return all(
            info["role"] == "slave" or info["connected_slaves"] == 1
            for info in (node.client.info("replication") for node in self.nodes)
        )

    def owner(self, slot: int) -> Owner:
        """Raises RedisError while no node knows."""
        numbers = {node.port: number for number, node in enumerate(self.nodes)}
        numbers |= {node.announced: number for number, node in enumerate(self.nodes)}
        # The node with the newest configuration is right; those that were away get it soon.
        known: list[tuple[int, Owner]] = []
        for node in self.nodes:
            if not node.up:
                continue
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                for first, last, primary, *replicas in node.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        owner = Owner(numbers[primary[1]], [numbers[replica[1]] for replica in replicas])
                        known.append((int(node.client.cluster("info")["cluster_current_epoch"]), owner))
        if not known:
            raise redis.ConnectionError(f"no node knows slot {slot}")
        return max(known, key=lambda one: one[0])[1]

    def primaries(self) -> list[int]:
        """The numbers of the nodes that take themselves for primaries with slots."""
        found = []
        for number, node in enumerate(self.nodes):
            with contextlib.suppress(redis.RedisError):
                if node.up and node.client.info("replication")["role"] == "master":
                    found.append(number)
        return found

    def replica_of(self, number: int) -> int | None:
        """A replica of a primary; None while it has none that is connected."""
        replication = self.nodes[number].client.info("replication")
        for position in range(replication["connected_slaves"]):
            port = replication[f"slave{position}"]["port"]
            for other, node in enumerate(self.nodes):
                if port in (node.port, node.announced):
                    return other
        return None

    def wait_until_whole(self, timeout_s: float = 60) -> None:
        wait_for(self.whole, timeout_s, "the cluster is whole again")

    def promote_behind(self, replica: int, wait_s: float) -> None:
        """Cut a replica off from its primary for `wait_s`, then let it take over with what it has."""
        node = self.nodes[replica]
        node.ask("CONFIG", "SET", "primaryauth", NOT_TO_SIGN_IN)
        try:
            node.ask("CLIENT", "KILL", "TYPE", "primary")
            time.sleep(wait_s)
            node.ask("CLUSTER", "FAILOVER", "TAKEOVER")
        finally:
            # The other way round now: what was the primary comes to fetch.
            node.ask("CONFIG", "SET", "primaryauth", "")

    def client(self) -> Any:
        """A client that goes around the proxy."""
        ports = {node.announced: node.port for node in self.nodes}
        return redis.RedisCluster(
            host=HOST,
            port=next(node.port for node in self.nodes if node.up),
            decode_responses=True,
            socket_timeout=5,
            address_remap=lambda address: (address[0], ports.get(address[1], address[1])),
        )

    def close(self) -> None:
        for node in self.nodes:
            if node.running:
                node.kill()
            node.client.close()


def _follows(node: Node, primary: str) -> bool:
    # Refused until the two know each other.
    return bool(node.ask("CLUSTER", "REPLICATE", primary) == "OK")


def _in_order(node: Node) -> bool:
    info: Mapping[str, Any] = node.client.cluster("info")
    replication = node.client.info("replication")
    return (
        info["cluster_state"] == "ok"
        and int(info["cluster_slots_ok"]) == SLOTS
        and int(info["cluster_known_nodes"]) == 2 * PRIMARIES
        and (replication["role"] == "master" or replication["master_link_status"] == "up")
    )
