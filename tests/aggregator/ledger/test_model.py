"""Log, store and several workers as a state machine: whatever happens to them, the ledger ends as one exact replay.

Fold, ledger and script are the real ones, the store is a real server. What chance decides is who does what when: ranges
cut anywhere, applied late, twice or never; crashes before and after a script; workers that go on from where they
believe to be; and a store that falls back to any earlier state of its own without any error.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis import Redis

from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, RangeDelta, ShardCache
from aggregator.ledger import ledger as ledgers_of_aggregator
from aggregator.ledger.ledger import Applied, Ledger, Refused
from aggregator.ledger.store import Client, connect
from schemas.ledger import fields
from tests.aggregator import ledgers
from tests.aggregator.counting import OF, SHARD, Counting
from tests.aggregator.logs import NOW_MS, LogRecord, record
from tests.integration.floor import loosened
from tests.integration.sites import DUMP_KEYS, RESTORE_KEYS

WORKERS = 2
SNAPSHOTS = 6
SETTINGS: dict[str, Any] = {"exact_up_to": 5, "max_labels": 2}
FIRST_MS = 1_795_000_000_000
T = TypeVar("T")

events = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from("abcdefghijk"),
        "time": st.sampled_from(["2026-10-31T23:59:59Z", "2026-11-01T00:00:00Z"]),
    },
    optional={
        "realm": st.sampled_from(["one", "two", "three"]),
        "success": st.booleans(),
        "id": st.sampled_from(["1", "2", "3", "4", "5"]),
    },
)
batches = st.lists(st.one_of(events, st.just(b"nope")), min_size=1, max_size=12)
workers = st.integers(0, WORKERS - 1)


@dataclass
class Worker:
    """What one worker believes: where it reads next, the ranges that it holds, and what it knows of the shard."""

    ledger: Ledger
    reads_from: int | None = None
    held: list[tuple[int, int]] = field(default_factory=list)
    position: int | None = None
    known: ShardCache = field(default_factory=lambda: ShardCache(set()))
    in_sketches: frozenset[tuple[str, Any]] = frozenset()

    def forget(self) -> None:
        self.reads_from, self.position = None, None
        self.held.clear()


class Model(RuleBasedStateMachine):
    """`url` and `other_url` are two empty databases."""

    def __init__(self, url: str, other_url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.url, self.other_url = url, other_url
        self.client = ledgers.client(url)
        self.raw: Any = Redis.from_url(url)
        self.client.flushdb()
        self.log: list[LogRecord] = []
        self.snapshots: list[list[bytes]] = []
        self.stores: list[Client] = []
        self.workers: list[Worker] = []
        self.rules_of = CountingRules.of(ledgers.settings(url, **SETTINGS))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        worker_settings = ledgers.settings(self.url, **SETTINGS)
        for _ in range(WORKERS):
            self.stores.append(connect(worker_settings))
            self.workers.append(Worker(Ledger(self.stores[-1], worker_settings)))

    # What happens in the world.

    @rule(batch=batches, hole=st.integers(0, 2))
    def log_grows(self, batch: list[Any], hole: int) -> None:
        offset = self.log[-1].offset + 1 + hole if self.log else 0
        for at, event in enumerate(batch):
            self.log.append(record(offset + at, event, FIRST_MS + offset + at))

    @rule(scripts=st.integers(1, SNAPSHOTS))
    def store_falls_back(self, scripts: int) -> None:
        """To what it held before that many scripts."""
        if self.snapshots:
            self.raw.eval(RESTORE_KEYS, 0, f"{OF.base}*", *self.snapshots[-min(scripts, len(self.snapshots))])

    @rule()
    def store_is_emptied(self) -> None:
        self.raw.flushdb()

    @rule()
    def scripts_are_forgotten(self) -> None:
        self.raw.script_flush()

    # What a worker does.

    @rule(number=workers, cuts=st.lists(st.integers(1, 15), min_size=1, max_size=3))
    def ranges_are_cut(self, number: int, cuts: list[int]) -> None:
        self._cut(self.workers[number], cuts)

    def _cut(self, worker: Worker, cuts: list[int]) -> None:
        if worker.reads_from is None:
            self.run(self._place(worker))
        for records in cuts:
            start = worker.reads_from or 0
            end = min(start + records, self.end)
            if end > start:
                worker.held.append((start, end))
                worker.reads_from = end

    @rule(number=workers, ranges=st.integers(1, 2))
    def ranges_are_applied(self, number: int, ranges: int) -> None:
        for _ in range(ranges):
            self._count(number, lambda worker, start, delta: self._apply(worker, start, delta))

    @rule(number=workers)
    def range_is_applied_and_the_answer_lost(self, number: int) -> None:
        """So the same script is sent again, which must be refused, and the worker goes by what that says."""

        async def twice(worker: Worker, start: int, delta: RangeDelta) -> None:
            await worker.ledger.apply(SHARD, start, delta, worker.in_sketches)
            await self._apply(worker, start, delta)

        self._count(number, twice)

    @rule(number=workers, after=st.booleans())
    def worker_dies(self, number: int, after: bool) -> None:
        """Before or after its script; another one takes its place and knows nothing."""

        async def die(worker: Worker, start: int, delta: RangeDelta) -> None:
            if after:
                await worker.ledger.apply(SHARD, start, delta, worker.in_sketches)
            worker.forget()

        self._count(number, die)

    @rule(number=workers)
    def range_is_dropped(self, number: int) -> None:
        """As Faust may do in a rebalance; the worker does not learn of it."""
        if self.workers[number].held:
            self.workers[number].held.pop(0)

    @property
    def end(self) -> int:
        return self.log[-1].offset + 1 if self.log else 0

    def _count(self, number: int, then: Callable[[Worker, int, RangeDelta], Coroutine[Any, Any, None]]) -> None:
        worker = self.workers[number]
        if not worker.held:
            self._cut(worker, [3, 3, 3])
        if worker.held:
            self.snapshots = [*self.snapshots[1 - SNAPSHOTS :], list(self.raw.eval(DUMP_KEYS, 0, f"{OF.base}*"))]
            self.run(self._count_one(worker, *worker.held.pop(0), then))

    async def _count_one(
        self, worker: Worker, start: int, end: int, then: Callable[[Worker, int, RangeDelta], Coroutine[Any, Any, None]]
    ) -> None:
        if worker.position != start:
            state = await worker.ledger.read_state(SHARD)
            seen = await worker.ledger.read_seen_ids(SHARD, state)
            if state.position != start or seen is None:
                worker.forget()
                return
            worker.position, worker.in_sketches = start, frozenset()
            worker.known = ShardCache(
                set(state.labels),
                seen_ids=seen,
                shares=Counter({group: int(number) for group, number in state.shares.items()}),
            )
        records = [one for one in self.log if start <= one.offset < end]
        await then(worker, start, fold("login", records, end, worker.known, self.rules_of, NOW_MS))

    async def _apply(self, worker: Worker, start: int, delta: RangeDelta) -> None:
        outcome = await worker.ledger.apply(SHARD, start, delta, worker.in_sketches)
        if isinstance(outcome, Refused):
            worker.forget()
            return
        worker.known.update(delta)
        worker.in_sketches |= outcome.in_sketches
        worker.position = delta.end

    async def _place(self, worker: Worker) -> None:
        position = (await worker.ledger.read_state(SHARD)).position
        if position is None:
            await worker.ledger.initialize(SHARD, 0, "id-1")
            position = (await worker.ledger.read_state(SHARD)).position
        worker.reads_from = position

    # What must be true.

    @invariant()
    def position_and_counts_belong_together(self) -> None:
        position = int(self.client.get(OF.position) or 0)
        below = sum(one.offset < position for one in self.log)
        assert int(self.client.hget(OF.progress, fields.CONSUMED) or 0) == below

    def teardown(self) -> None:
        try:
            if self.workers and self.log:
                self.run(self._drain())
                self._compare()
        finally:
            for store in self.stores:
                self.run(store.aclose())
            self.runner.close()
            self.client.close()
            self.raw.close()

    async def _drain(self) -> None:
        """Every worker applies the ranges that it holds, then one of them the rest of the log."""
        for worker in self.workers:
            while worker.held:
                await self._count_one(worker, *worker.held.pop(0), self._apply)
        worker = self.workers[0]
        worker.forget()
        # As each worker does on its timer: the registry is no part of the shard, and may have fallen back further.
        await worker.ledger.register([SHARD])
        await self._place(worker)
        if worker.reads_from != self.end:
            await self._count_one(worker, worker.reads_from or 0, self.end, self._apply)

    def _compare(self) -> None:
        async def replay() -> None:
            async with Counting(self.other_url, **SETTINGS) as counter:
                await counter.open()
                assert isinstance(await counter.count(self.log, 0, self.end), Applied)

        with ledgers.client(self.other_url) as other:
            other.flushdb()
            self.run(replay())
            assert self.client.get(OF.position) == str(self.end)
            assert ledgers.contents(self.client) == ledgers.contents(other)


def model(redis_url: str, **given: Any) -> None:
    """Run it. Raises what its assertions raise."""
    other_url = redis_url.removesuffix("/0") + "/1"
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", lambda: Model(redis_url, other_url)),
        settings=settings(
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            **given,
        ),
    )


def test_whatever_happens_the_ledger_ends_as_one_exact_replay(redis_url: str) -> None:
    model(redis_url, max_examples=40)


def test_the_model_finds_a_script_that_refuses_only_below_the_position(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = loosened(ledgers_of_aggregator.SCRIPT)
    monkeypatch.setattr(ledgers_of_aggregator, "SCRIPT", script)
    monkeypatch.setattr(ledgers_of_aggregator, "SCRIPT_SHA", hashlib.sha1(script.encode()).hexdigest())
    with pytest.raises(AssertionError):
        model(redis_url, max_examples=200, phases=[Phase.generate], database=None)
