"""Everything that a run consists of: brokers, stores, proxy, workers, apis, the flow, and who watches."""

from __future__ import annotations

import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from redis.crc import key_slot

from deploy.demo.servers import free_port
from schemas.ledger.keys import Shard, ShardKeys
from tests.integration.sites import PREFIX
from tests.qualification.chaos.annex import MOVED, PARTITIONS, Annex
from tests.qualification.chaos.clocks import FalseClock
from tests.qualification.chaos.faulty_fold import FAULTY
from tests.qualification.chaos.fleet import MODULE, Fleet
from tests.qualification.chaos.kafka_cluster import KafkaCluster
from tests.qualification.chaos.ledger import Ledger
from tests.qualification.chaos.network import Proxy
from tests.qualification.chaos.poison import NO_LIMITS
from tests.qualification.chaos.prober import Prober
from tests.qualification.chaos.redis_cluster import PRIMARIES, Node, RedisCluster
from tests.qualification.chaos.watch import Mark, Watch

LOGINS: Final = "chaos.logins"
TOKENS: Final = "chaos.tokens"
FLEETING: Final = "chaos.fleeting"
"""Is made anew now and then, so the flow leaves it alone."""
FOREIGN: Final = "chaos.foreign"
"""Bound to an adapter; holds nothing but what is poisoned."""
DEAD: Final = "chaos.dead-letter"


@dataclass(frozen=True)
class Plan:
    """How a run is laid out."""

    seed: int
    workers: int = 3
    apis: int = 2
    partitions: int = 3
    events_per_s: int = 20_000
    older: str = ""
    plain: bool = False
    annex: bool = False
    """Whether there is a store of which one address is known, and that moves."""
    program: tuple[str, ...] = MODULE
    settings: dict[str, str] = field(default_factory=dict)


class Site:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.most_cut = 4_000_000
        """Bytes of a log of commands that a loss of power costs at most."""
        self._floors: dict[int, tuple[str, int]] = {}
        self._transactions = 0
        self.mark: Mark | None = None
        self.annex: Annex | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        plan, stack = self.plan, self._stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authtally-chaos-")))
        self.kafka = KafkaCluster(self.folder)
        stack.callback(self.kafka.close)
        self.kafka.start()
        self.store_clocks = [FalseClock(self.folder / "clocks", f"node-{number}") for number in range(2 * PRIMARIES)]
        ports = [free_port() for _ in self.store_clocks]
        self.store = RedisCluster(self.folder, ports, [clock.environment for clock in self.store_clocks])
        stack.callback(self.store.close)
        self.store.start()
        lanes = [(node.announced, node.port) for node in self.store.nodes]
        if plan.annex:
            self.annex = Annex(self.folder)
            stack.callback(self.annex.close)
            self.annex.start_store()
            lanes.append((self.annex.address, self.annex.primary.port))
        self.proxy = Proxy(self.folder / "proxy", lanes)
        stack.enter_context(self.proxy)

        self.kafka.create(DEAD, 1)
        # Brokers before version 4 take any timestamp by default.
        for topic, partitions in ((LOGINS, plan.partitions), (TOKENS, plan.partitions), (FLEETING, 1), (FOREIGN, 1)):
            self.kafka.create(topic, partitions, **NO_LIMITS)
        events = {LOGINS: "login", TOKENS: "token"}
        self.ledger = Ledger(self.kafka.bootstrap, events, plan.partitions, plan.seed, plan.plain)
        self.fleeting = self.ledger.add_topic(FLEETING, "login")
        self.foreign = self.ledger.add_topic(FOREIGN, "cloudevents")
        self.ledger.open(self.ledger.lanes.values())

        settings = {
            "kafka_bootstrap_servers": self.kafka.bootstrap,
            "kafka_group": f"chaos-{uuid.uuid4().hex[:8]}",
            "redis_url": f"redis://127.0.0.1:{self.store.nodes[0].announced}",
            "redis_cluster": "true",
            "user_hash_key": "a key for nothing but tests",
            "topics": f"{LOGINS}=login,{TOKENS}=token,{FLEETING}=login,{FOREIGN}=cloudevents",
            "dead_letter_topic": DEAD,
            "exact_up_to": "500",
            # The store's clock goes years ahead, and what has an expiry would really expire.
            "retain_days": "forever",
            **plan.settings,
        }
        self.settings = settings
        self.fleet = Fleet(self.folder / "workers", plan.workers, settings, plan.program, plan.older)
        stack.callback(self.fleet.close)
        self.watch = Watch(self.store.nodes, self.ledger.lanes)
        self.watch.quiet = self.ledger.apart
        stack.callback(self.watch.close)
        self.prober = Prober(settings, plan.apis, self.ledger)
        stack.callback(self.prober.close)
        self.fleet.start()
        self.watch.start()
        self.prober.start()
        if self.annex is not None:
            self.kafka.create(MOVED, PARTITIONS)
            self.annex.start(self.kafka.bootstrap, plan.seed, settings, plan.program)

    def struck(self, watch: Watch | None = None) -> Mark:
        """The harm is done: from now on counts how long the shards, or only those of `watch`, take to move on."""
        self.mark = self.watch.mark(self.ledger.apart) if watch is None else watch.mark()
        return self.mark

    @property
    def folds_raise(self) -> bool:
        """Whether the workers' fold raises for records that are marked for it."""
        return self.plan.program[0] == FAULTY

    @property
    def ledgers(self) -> list[Ledger]:
        return [self.ledger] if self.annex is None else [self.ledger, self.annex.ledger]

    @property
    def fleets(self) -> list[Fleet]:
        return [self.fleet] if self.annex is None else [self.fleet, self.annex.fleet]

    @property
    def probers(self) -> list[Prober]:
        return [self.prober] if self.annex is None else [self.prober, self.annex.prober]

    def next_transaction(self) -> int:
        self._transactions += 1
        return self._transactions

    def floor(self, number: int, file: Path) -> int:
        """The byte of a node's log of commands below which it must not be cut."""
        name, size = self._floors.get(number, ("", 0))
        return size if name == file.name else 0

    def safe_positions(self) -> dict[Shard, int] | None:
        """Positions that no node can fall back behind from now on; None while that cannot be said of some."""
        if not self.store.whole() or any(node.rewrites for node in self.store.nodes):
            return None
        safe = {}
        for shard in self.ledger.lanes:
            owner = self.store.owner(self.slot(shard))
            key = ShardKeys(PREFIX, shard).position
            held = [self.store.nodes[number].read(key) for number in (owner.primary, *owner.replicas)]
            if not owner.replicas or None in held or (shard in self.ledger.apart and len(set(held)) > 1):
                return None
            safe[shard] = min(int(position or 0) for position in held)
        # After the positions: what was read is in the files by now.
        for number, node in enumerate(self.store.nodes):
            file = node.log_of_commands()
            self._floors[number] = file.name, file.stat().st_size
        return safe

    @property
    def counted(self) -> int:
        """Offsets behind the shards' positions."""
        return sum(self.watch.positions.values())

    def slot(self, shard: Shard) -> int:
        return int(key_slot(ShardKeys(PREFIX, shard).position.encode()))

    def home(self, shard: Shard) -> Node:
        """The node that holds a shard. Raises RedisError while no node knows."""
        return self.store.nodes[self.store.owner(self.slot(shard)).primary]
