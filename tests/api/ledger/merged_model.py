"""A ledger of several shards and its readers as a state machine: merged periods never change an answer.

Ledger, script, snapshot and readers are the real ones, the store is a real server. Chance decides what happens in the
world, and between which two commands of a reader. After each step, readers that keep merged periods must return what a
reader without them returns.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis import Redis

from api.ledger.client import Client, Command, open_ledger, open_url
from api.ledger.merged_store import MergedStore
from api.ledger.rolling import count_rolling
from api.ledger.statistics import Statistics
from api.settings.settings import ApiSettings
from deploy.cli.realm_removal import remove_from
from deploy.cli.snapshot.copying import copy_shard
from deploy.cli.snapshot.file import BEGIN, END, HEADER, Writer, entries_of
from deploy.cli.snapshot.lease import InTheWayError
from deploy.cli.snapshot.restoring import Restored, begin, fill, finish
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, Scope
from schemas.settings import read
from schemas.time.clock import SYSTEM
from tests.aggregator.counting import Counting
from tests.aggregator.logs import LogRecord, record
from tests.integration.sites import DUMP_KEYS, RESTORE_KEYS

PREFIX: Final = "authtally:"
SHARDS: Final = [Shard("auth.logins", number) for number in range(3)]
MONTHS: Final = [Month(2025, 3), Month(2025, 4)]
DAYS: Final = ["2025-03-31", "2025-04-01"]
REALM: Final = Scope("realm", ("one",))
SNAPSHOTS: Final = 8
COUNTED: Final[dict[str, Any]] = {"users_by": ("realm",), "exact_up_to": 5, "retain_days": "forever"}
KEPT: Final = "forever"
EXPIRED: Final = 1
"""RETAIN_MONTHS with which the months of the model have expired."""
T = TypeVar("T")

events = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from("abcdefghijkl"),
        "time": st.sampled_from([f"{day}T12:00:00Z" for day in DAYS]),
    },
    optional={"realm": st.sampled_from(["one", "two"]), "success": st.booleans()},
)
shards = st.sampled_from(range(len(SHARDS)))


class Act(NamedTuple):
    """Something that happens in the world, by the name of a method of World."""

    name: str
    arguments: tuple[Any, ...] = ()


acts = st.one_of(
    st.builds(lambda number, size: Act("count", (number, size)), shards, st.integers(1, 6)),
    st.builds(lambda number, size: Act("count", (number, size)), shards, st.integers(1, 6)),
    st.builds(lambda scripts: Act("fall_back", (scripts,)), st.integers(1, SNAPSHOTS)),
    st.builds(lambda number: Act("expire", (number,)), shards),
    st.builds(lambda number, back: Act("reset", (number, back)), shards, st.integers(0, 6)),
    st.builds(lambda number: Act("remove_realm", (number,)), shards),
    st.builds(lambda number: Act("save", (number,)), shards),
    st.builds(lambda number: Act("restore_a_step", (number,)), shards),
    st.just(Act("flush")),
)


class World:
    """Three shards, each with its log, and what may happen to them."""

    def __init__(self, url: str, logs: Sequence[Sequence[LogRecord]]) -> None:
        self.url = url
        self.logs = logs
        self.raw: Any = Redis.from_url(url)
        self.folder = Path(tempfile.mkdtemp(prefix="authtally-merged-"))
        self._counters: dict[tuple[int, Any], Counting] = {}
        self._snapshots: list[list[bytes]] = []
        self._restoring: dict[int, str] = {}
        """Shards in the middle of a restore, with the next step."""

    async def act(self, what: Act) -> None:
        if what.name not in ("fall_back", "save"):
            self._snapshots = [*self._snapshots[1 - SNAPSHOTS :], list(self.raw.eval(DUMP_KEYS, 0, "*"))]
        await getattr(self, what.name)(*what.arguments)

    def _counter(self, number: int, months: Any = KEPT) -> Counting:
        if (number, months) not in self._counters:
            self._counters[number, months] = Counting(
                self.url, SHARDS[number], remember=False, retain_months=months, **COUNTED
            )
        return self._counters[number, months]

    async def count(self, number: int, size: int, months: Any = KEPT) -> None:
        """A worker applies the next records of the shard's log."""
        counter = self._counter(number, months)
        await counter.ledger.register([SHARDS[number]])
        start = await counter.resume()
        end = min(start + size, len(self.logs[number]))
        if start < end:
            await counter.count(self.logs[number], start, end)

    async def expire(self, number: int) -> None:
        """A worker with a shorter retention touches a month, whose keys expire at once."""
        await self.count(number, 1, EXPIRED)

    async def reset(self, number: int, back: int) -> None:
        """An operator moves the position back."""
        ledger = self._counter(number).ledger
        position = (await ledger.read_state(SHARDS[number])).position
        if position not in (None, fields.RESTORING):
            await ledger.move_position(SHARDS[number], position, max(0, position - back), {})

    async def remove_realm(self, number: int) -> None:
        of = ShardKeys(PREFIX, SHARDS[number])
        if self.raw.get(of.position) != str(fields.RESTORING).encode():
            await remove_from(self._counter(number).client, of, "one")

    async def fall_back(self, scripts: int) -> None:
        """A failover loses the last writes; a restore loses its connection."""
        self._restoring.clear()
        if self._snapshots:
            self.raw.eval(RESTORE_KEYS, 0, "*", *self._snapshots[-min(scripts, len(self._snapshots))])

    async def flush(self) -> None:
        self._restoring.clear()
        self.raw.flushdb()

    async def save(self, number: int) -> None:
        of = ShardKeys(PREFIX, SHARDS[number])
        if self.raw.get(of.position) in (None, str(fields.RESTORING).encode()):
            return
        with Writer(self._file(number)) as into:
            into.write_document(HEADER, {"id": ""})
            into.write_document(BEGIN, {"section": of.shard.tag})
            await copy_shard(self._counter(number).client, of, into)
            into.write_document(END, {"section": of.shard.tag})
            into.done({"shards": []})

    async def restore_a_step(self, number: int) -> None:
        """The steps of deploy.cli.snapshot.restoring, one at a time."""
        of, client = ShardKeys(PREFIX, SHARDS[number]), self._counter(number).client
        if not self._file(number).exists():
            return
        step = self._restoring.pop(number, "begin")
        if step == "begin":
            held = self.raw.get(of.position)
            await begin(client, of, None if held is None else int(held))
            self._restoring[number] = "clear"
        elif step == "clear":
            self.raw.srem(keys.shards(PREFIX), of.shard.tag)
            await fill(client, of, (), "", Restored())
            self._restoring[number] = "fill"
        elif step == "fill":
            await fill(client, of, entries_of(self._file(number), of.shard.tag), "", Restored())
            self.raw.sadd(keys.shards(PREFIX), of.shard.tag)
            self._restoring[number] = "finish"
        else:
            saved = next(entry for entry in entries_of(self._file(number), of.shard.tag) if entry.name == b"position")
            with suppress(InTheWayError):
                await finish(client, of, int(saved.value))

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.snapshot"

    async def close(self) -> None:
        for counter in self._counters.values():
            await counter.client.aclose()
        self.raw.close()


class InterruptedClient:
    """A reader's client. Before each of its pipelines something may happen in the world."""

    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self._world = world
        self._happening = asyncio.Lock()
        self.plan: list[list[Act]] = []
        """By number of the pipeline."""

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        # A reader sends several pipelines at the same time; things happen one after the other, each as a whole.
        async with self._happening:
            for act in self.plan.pop(0) if self.plan else ():
                await self._world.act(act)
        return await self._client.run(commands)

    async def ping(self) -> None:
        await self._client.ping()

    async def close(self) -> None:
        await self._client.close()


async def answers(statistics: Statistics) -> list[Any]:
    """One answer of each kind that may use merged periods."""
    months = [month.key for month in MONTHS]
    rolling = await statistics.find_periods(DAYS)
    return [
        await statistics.months(MONTHS),
        await statistics.months(MONTHS, ["one"]),
        await statistics.active_over(months, [EVERYTHING]),
        await statistics.active_over([*months, *DAYS], [EVERYTHING, REALM]),
        await statistics.counts([*months, *DAYS], [EVERYTHING]),
        await count_rolling(statistics.distinct, [rolling.distinct_query([day], [EVERYTHING]) for day in DAYS], 2),
    ]


class MergedModel(RuleBasedStateMachine):
    """`url` is an empty database, `shared_url` another one for the store that readers share."""

    def __init__(self, url: str, shared_url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.url, self.shared_url = url, shared_url
        self.world: World | None = None

    async def answers(self, statistics: Statistics) -> list[Any]:
        return await answers(statistics)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(logs=st.lists(st.lists(events, min_size=8, max_size=40), min_size=3, max_size=3))
    def begin(self, logs: list[list[dict[str, Any]]]) -> None:
        for url in (self.url, self.shared_url):
            with Redis.from_url(url) as client:
                client.flushdb()
        self.world = World(self.url, [[record(at, event) for at, event in enumerate(log)] for log in logs])
        of = read(ApiSettings, auth=("none",), redis_url=self.url, users_by=("realm",), exact_up_to=5)
        self.client = open_ledger(of)
        self.shared = open_url(self.shared_url)
        self.plain = Statistics(self.client, of)
        self.interrupted = InterruptedClient(self.client, self.world)
        self.stores = [MergedStore(8 << 20, SYSTEM), *(MergedStore(8 << 20, SYSTEM, self.shared) for _ in range(2))]
        self.readers = [Statistics(self.interrupted, of, store) for store in self.stores]

    @rule(what=acts)
    def something_happens(self, what: Act) -> None:
        self.happens(what)

    def happens(self, what: Act) -> None:
        assert self.world is not None
        self.run(self.world.act(what))

    @rule(reader=st.sampled_from(range(3)), plan=st.lists(st.lists(acts, max_size=2), min_size=1, max_size=12))
    def reader_reads_while_things_happen(self, reader: int, plan: list[list[Act]]) -> None:
        """What it returns may be of any moment; what it keeps must not be wrong."""
        self.interrupted.plan = list(plan)
        try:
            self.run(self.answers(self.readers[reader]))
        finally:
            self.interrupted.plan = []

    @rule(number=shards, first=st.integers(1, 6), second=st.integers(1, 6))
    def ranges_are_lost_and_cut_otherwise(self, number: int, first: int, second: int) -> None:
        """As many ranges as before, but others: a counter of changes returns to the same number."""
        for size in (first, first):
            self.happens(Act("count", (number, size)))
        self.check()
        self.happens(Act("fall_back", (2,)))
        for size in (second, second):
            self.happens(Act("count", (number, size)))

    @rule(number=st.sampled_from([1, 2]))
    def api_starts_again(self, number: int) -> None:
        """Its own store is empty, the shared one is not."""
        self.stores[number] = MergedStore(8 << 20, SYSTEM, self.shared)
        of = read(ApiSettings, auth=("none",), redis_url=self.url, users_by=("realm",), exact_up_to=5)
        self.readers[number] = Statistics(self.interrupted, of, self.stores[number])

    @invariant()
    def answers_do_not_depend_on_merging(self) -> None:
        self.check()

    def check(self) -> None:
        if self.world is not None:
            expected = self.run(self.answers(self.plain))
            for reader in self.readers:
                assert self.run(self.answers(reader)) == expected, "the answer depends on merging"

    def teardown(self) -> None:
        try:
            if self.world is not None:
                self.run(self.world.close())
                self.run(self.client.close())
                self.run(self.shared.close())
        finally:
            self.runner.close()


def run_model(redis_url: str, model: type[MergedModel] = MergedModel, **given: Any) -> None:
    """Run a model. Raises what its assertions raise."""
    shared_url = redis_url.removesuffix("/0") + "/1"
    machine: Callable[[], RuleBasedStateMachine] = lambda: model(redis_url, shared_url)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        # A busy machine is no fault of the model's.
        patch.setattr("api.ledger.client.TIMEOUT_S", 30.0)
        run_state_machine_as_test(
            cast("type[RuleBasedStateMachine]", machine),
            settings=settings(
                deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], **given
            ),
        )
