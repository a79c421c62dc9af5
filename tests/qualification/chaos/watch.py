"""Reads every shard's position on every node, and measures how long each takes to move after a fault."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import redis

from schemas.ledger.keys import Shard, ShardKeys
from tests.integration.sites import PREFIX

POLL_S: Final = 0.05


class Watched(Protocol):
    """A node of a store."""

    @property
    def port(self) -> int: ...
    @property
    def up(self) -> bool: ...


@dataclass
class Mark:
    """A moment, and how many seconds after it each shard was first seen to move on."""

    began: float
    pending: set[Shard]
    moved_s: dict[Shard, float] = field(default_factory=dict)
    based: set[Shard] = field(default_factory=set)
    disturbed: bool = False
    """Whether another fault came while some were pending, or the one before was not over."""

    @property
    def slowest_s(self) -> float:
        return max(self.moved_s.values(), default=0.0)


class Watch:
    """Reads around the proxy. `positions` is what the shards' owners said last."""

    def __init__(self, nodes: Sequence[Watched], shards: Iterable[Shard]) -> None:
        self.positions: dict[Shard, int] = dict.fromkeys(shards, 0)
        self._marks: list[Mark] = []
        self.quiet: set[Shard] = set()
        """Shards that get events now and then only: their standing still does not show how long they were held up."""
        self._doing, self._calm = "", True
        self.promotions: list[tuple[str, Mark]] = []
        """What was going on, and how the new primary's shards followed."""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(node,), daemon=True) for node in nodes]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def add(self, shard: Shard) -> None:
        with self._lock:
            self.positions[shard] = 0

    def mark(self, without: Iterable[Shard] = ()) -> Mark:
        with self._lock:
            mark = Mark(time.monotonic(), set(self.positions) - set(without))
            self._marks.append(mark)
        return mark

    def begin(self, doing: str, *, calm: bool) -> None:
        """A fault comes, of this kind; `calm`: after all recovered from the one before."""
        with self._lock:
            self._doing, self._calm = doing, calm
            for _, mark in self.promotions:
                mark.disturbed |= bool(mark.pending)

    def clear(self) -> None:
        """Forget all marks but those of promotions that some shard has not followed yet."""
        with self._lock:
            self._marks = [mark for _, mark in self.promotions if mark.pending]

    def _run(self, node: Watched) -> None:
        with redis.Redis(
            host="127.0.0.1", port=node.port, decode_responses=True, socket_timeout=1, socket_connect_timeout=1
        ) as client:
            was = ""
            while not self._ended.wait(POLL_S):
                if not node.up:
                    continue
                asked = list(self.positions)
                pipeline = client.pipeline(transaction=False)
                pipeline.execute_command("ROLE")
                for shard in asked:
                    pipeline.get(ShardKeys(PREFIX, shard).position)
                with contextlib.suppress(redis.RedisError, OSError):
                    role, *found = pipeline.execute(raise_on_error=False)
                    # A replica answers MOVED, as does a node without the slot.
                    if isinstance(role, Exception):
                        continue
                    if role[0] == "master":
                        held = dict(zip(asked, found, strict=True))
                        if was == "slave":
                            owned = {shard for shard, at in held.items() if isinstance(at, str)}
                            self._promoted(owned - self.quiet)
                        self._saw(held)
                    was = role[0]

    def _promoted(self, shards: set[Shard]) -> None:
        with self._lock:
            mark = Mark(time.monotonic(), shards, disturbed=not self._calm)
            self._marks.append(mark)
            self.promotions.append((self._doing, mark))

    def _saw(self, found: dict[Shard, object]) -> None:
        now = time.monotonic()
        with self._lock:
            for shard, position in found.items():
                if isinstance(position, Exception):
                    continue
                at = int(str(position or 0))
                moved = at > self.positions.get(shard, 0)
                self.positions[shard] = at
                for mark in self._marks:
                    # The first sight after the moment may show what had moved before it.
                    if shard not in mark.based:
                        mark.based.add(shard)
                    elif moved and shard in mark.pending:
                        mark.pending.discard(shard)
                        mark.moved_s[shard] = now - mark.began
