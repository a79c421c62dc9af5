"""The ledger in Redis: one atomic step moves a shard from one position to the next; nothing else writes counts.

The script beside this file writes only if the stored position equals the start of the range. A range that comes twice,
late, out of order or from a worker that lost its partition writes nothing; the answer contains the shard's position.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Final, cast

from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from aggregator.fold.deduplication import NOTHING_EVICTED, SeenIds
from aggregator.fold.range_delta import RangeDelta
from aggregator.ledger.retries import LedgerDefectError, RetryingClient
from aggregator.ledger.step import Step
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from schemas.ledger import changes, fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month, period_end
from schemas.time.clock import SYSTEM, Clock

__all__ = ["Applied", "Ledger", "LedgerDefectError", "Refused", "ShardState"]

SCRIPT: Final = resources.files("aggregator.ledger").joinpath("ledger.lua").read_text("utf-8")
SCRIPT_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
# Everything that a fold needs of a shard, and its position, read in one step.
READ_STATE: Final = """
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', redis.call('SMEMBERS', KEYS[2]), redis.call('HGETALL', KEYS[3]),
        redis.call('HGETALL', KEYS[4]), redis.call('SMEMBERS', KEYS[5]), redis.call('HGETALL', KEYS[6]),
        time[1] * 1000 + math.floor(time[2] / 1000)}
"""
# The key decides which node of a Cluster answers.
TIME: Final = """
local time = redis.call('TIME')
return {KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000)}
"""
READ_IDS: Final = """
local found = {redis.call('GET', KEYS[1]) or ''}
local strings = tonumber(ARGV[1])
for number = 2, #KEYS do
  if number <= strings + 1 then
    found[number] = redis.call('GET', KEYS[number]) or ''
  else
    found[number] = redis.call('HGETALL', KEYS[number])
  end
end
return found
"""

CLOCK_AGE_S: Final = 60.0
"""A store's TIME is read again when it is older than this. Each script returns a new one."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """The contents of a shard at one moment."""

    position: int | None
    labels: frozenset[str]
    meta: Mapping[str, str]
    ids: Mapping[str, str] = field(default_factory=dict)
    """Its ids hash: number of event ids by hour."""
    unexpected: frozenset[int] = frozenset()
    """Offsets of unexpected records."""
    shares: Mapping[str, str] = field(default_factory=dict)
    """Its shares hash."""

    @property
    def removals(self) -> str:
        return self.meta.get(fields.REMOVALS, "")

    @property
    def unexpected_allowed(self) -> int:
        return int(self.meta.get(fields.UNEXPECTED_ALLOWED, fields.ALLOWED_AT_FIRST))


@dataclass(frozen=True, slots=True)
class Applied:
    """The range is written. `in_sketches` are the (period, scope) whose users are in sketches."""

    in_sketches: frozenset[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was written: the shard stands at `position`; None if it is empty."""

    position: int | None


class Ledger:
    """Reads shards and applies range deltas. Waits for Redis without limit, and logs the failures."""

    def __init__(
        self,
        client: Client,
        settings: WorkerSettings,
        *,
        on_error: Callable[[str | None], None] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """`on_error` is called with each failure, and with None when the store answers again."""
        self._client = client
        self._settings = settings
        self._zone = settings.zone
        self._redis = RetryingClient(client, settings.redis_url.get_secret_value(), on_error or (lambda _: None))
        self._expiry = lru_cache(maxsize=4096)(self._expires)
        self._monotonic = clock.monotonic
        self._clocks: dict[Shard, tuple[int, float]] = {}
        """The last TIME of each shard's store, Unix ms, and the monotonic time of its arrival."""

    def keys(self, shard: Shard) -> ShardKeys:
        return ShardKeys(self._settings.key_prefix, shard)

    async def read_state(self, shard: Shard) -> ShardState:
        """The contents of a shard, except event ids, at one moment. Raises LedgerDefectError."""
        shard_keys = self.keys(shard)
        key_names = (
            shard_keys.position,
            shard_keys.labels,
            shard_keys.meta,
            shard_keys.ids,
            shard_keys.unexpected,
            shard_keys.shares,
        )
        answer = await self._redis.until_ok(lambda: self._client.eval(READ_STATE, len(key_names), *key_names))
        position, labels, meta, ids, unexpected, shares, clock = cast(
            tuple[str, list[str], list[str], list[str], list[str], list[str], int], answer
        )
        self._set_clock(shard, clock)
        return ShardState(
            _parse_position(position),
            frozenset(labels),
            _pairs(meta),
            _pairs(ids),
            frozenset(map(int, unexpected)),
            _pairs(shares),
        )

    async def now_ms(self, shard: Shard, max_age_s: float = CLOCK_AGE_S) -> int:
        """The clock of the shard's store, Unix ms: its last TIME plus the monotonic time since. Waits for Redis."""
        clock = self._clocks.get(shard)
        if clock is None or self._monotonic() - clock[1] > max_age_s:
            key = self.keys(shard).position
            _, answered = await self._redis.until_ok(lambda: cast(Any, self._client.eval(TIME, 1, key)))
            clock = self._set_clock(shard, answered)
        return clock[0] + int((self._monotonic() - clock[1]) * 1000)

    def _set_clock(self, shard: Shard, ms: int) -> tuple[int, float]:
        clock = self._clocks[shard] = (ms, self._monotonic())
        return clock

    async def read_seen_ids(self, shard: Shard, state: ShardState) -> SeenIds | None:
        """The event ids of a shard; None if its position is no longer that of `state`."""
        by_field = {fields.split(name): int(value) for name, value in state.ids.items()}
        evicted_before = by_field.pop((fields.EVICTED_BEFORE,), NOTHING_EVICTED)
        excess_before = by_field.pop((fields.EXCESS, fields.EVICTED_BEFORE), NOTHING_EVICTED)
        hours = sorted(int(name[0]) for name in by_field if len(name) == 1)
        excess = sorted(int(name[1]) for name in by_field if len(name) == 2)
        names = self.keys(shard)
        strings = [*map(names.ids_of, hours), *map(names.excess_ids_of, excess)]
        key_names = [names.position, *strings, *map(names.id_realms_of, hours)]
        position, *found = await self.read(READ_IDS, key_names, str(len(strings)).encode())
        if _parse_position(position.decode()) != state.position:
            return None
        digests, by_realm = iter(found[: len(strings)]), found[len(strings) :]
        realms = {hour: _numbers(flat) for hour, flat in zip(hours, by_realm, strict=True) if flat}
        seen = SeenIds.from_packed(dict(zip(hours, digests, strict=False)), evicted_before, realms)
        if excess or excess_before != NOTHING_EVICTED:
            seen.excess = SeenIds.from_packed(dict(zip(excess, digests, strict=True)), excess_before)
        return seen

    async def read(self, script: str, key_names: Sequence[str], *arguments: bytes) -> list[Any]:
        """The answer of a read-only script, as bytes. Waits for Redis without limit."""
        # EVAL, because hashing and sending a short script costs less than losing it.
        answer = await self._redis.until_ok(
            lambda: self._client.execute_command(
                "EVAL", script, len(key_names), *key_names, *arguments, **{NEVER_DECODE: True}
            )
        )
        return cast(list[Any], answer)

    async def positions(self, shards: Iterable[Shard]) -> dict[Shard, int]:
        """Positions of the shards that have one. Raises one of UNREACHABLE: its caller repeats it on a timer."""
        asked = list(shards)
        found = await self._redis.once(
            lambda: asyncio.gather(*(self._client.get(self.keys(shard).position) for shard in asked))
        )
        return {shard: int(at) for shard, at in zip(asked, found, strict=True) if at is not None}

    async def initialize(self, shard: Shard, start: int, topic_id: str) -> Applied | Refused:
        """Register a shard that has no position and set its first one. Safe to repeat."""
        # The registry lies in another slot, so it cannot be part of the step. It is written first: a crash in between
        # leaves a registered empty shard, which readers add as zero; the other order could leave unregistered counts.
        await self._redis.until_ok(lambda: self.register([shard]))
        step = Step(self.keys(shard), None, start)
        step.add_meta(self._settings.counted_with(shard.topic) | {"topic_id": topic_id})
        step.renew_epoch()
        return await self._run_plain(shard, step)

    async def register(self, shards: Iterable[Shard]) -> None:
        """Add shards to the registry, from which readers know them. Raises one of UNREACHABLE.

        Must be repeated from time to time: the registry may lie on another node than the shard, and lose writes there.
        """
        tags, prefix = [shard.tag for shard in shards], self._settings.key_prefix
        if tags:
            await self._redis.once(lambda: cast(Any, self._client.sadd(keys.shards(prefix), *tags)))
            await self._redis.once(lambda: self._client.set(keys.ledger_id(prefix), changes.new_token(), nx=True))

    async def skip_lost(self, shard: Shard, start: int, end: int) -> Applied | Refused:
        """Move past offsets that Kafka no longer has, and count them as lost."""
        step = Step(self.keys(shard), start, end)
        step.add_progress({fields.LOST: end - start})
        step.renew_epoch()
        return await self._run_plain(shard, step)

    async def adopt_settings(self, shard: Shard, at: int | None, meta: Mapping[str, str]) -> Applied | Refused:
        """Record changed settings in a shard that stands at `at`, without moving it."""
        step = Step(self.keys(shard), at, None)
        step.add_meta(meta)
        step.renew_epoch()
        return await self._run_plain(shard, step)

    async def move_position(
        self, shard: Shard, start: int | None, end: int, meta: Mapping[str, str], *, other_log: bool = False
    ) -> Applied | Refused:
        """Move a shard's position on an operator's order: records count twice, or never.

        `other_log` drops the offsets of unexpected records, which belong to a topic that no longer exists.
        """
        step = Step(self.keys(shard), start, end)
        step.add_meta(meta)
        step.renew_epoch()
        if other_log:
            step.change_unexpected(clear=True)
        return await self._run_plain(shard, step)

    async def apply(
        self,
        shard: Shard,
        start: int,
        delta: RangeDelta,
        in_sketches: AbstractSet[tuple[str, Any]] = frozenset(),
        *,
        meta: Mapping[str, str] | None = None,
        removals: str | None = None,
    ) -> Applied | Refused:
        """Add one delta and move the position from `start` to its end, in one step.

        `in_sketches` may name (period, scope) whose users are in sketches; a missing one costs a few keys, nothing
        else. `meta` is written in the same step. The range is refused if the shard's removals differ from `removals`,
        those of the cache from which the delta was folded. Safe to repeat: the position decides. Waits for Redis
        without limit. Raises LedgerDefectError.
        """
        step = Step(self.keys(shard), start, delta.end)
        step.add_meta(meta or {})
        if removals is not None:
            step.require_removals(removals)
        step.add_delta(delta, in_sketches, self._settings.exact_up_to, self._expiry)
        answer = await self._run(shard, step)
        if isinstance(answer, Refused):
            return answer
        scopes = list(delta.users)
        return Applied(frozenset(scopes[number - 1] for number in answer))

    async def record_refusal(self, shard: Shard, at_ms: int) -> None:
        """Count a refused script. Counts twice if an answer is lost."""
        observed = self.keys(shard).observed
        await self._redis.until_ok(lambda: self._client.hincrby(observed, fields.REFUSED, 1))
        await self._redis.until_ok(lambda: self._client.hset(observed, fields.REFUSED_MS, str(at_ms)))

    async def record_observations(self, shard: Shard, observations: Mapping[str, str]) -> None:
        """Write facts that do not come from the log (fields of `observed`). Raises one of UNREACHABLE."""
        observed = self.keys(shard).observed
        await self._redis.once(lambda: self._client.hset(observed, mapping=cast(Any, dict(observations))))

    async def _run_plain(self, shard: Shard, step: Step) -> Applied | Refused:
        """Run a step that adds no users."""
        answer = await self._run(shard, step)
        return answer if isinstance(answer, Refused) else Applied(frozenset())

    async def _run(self, shard: Shard, step: Step) -> list[int] | Refused:
        """1-based indexes of the entries of `users` whose users are now in sketches."""
        # A new token for each attempt: the store may have lost the former attempt together with what preceded it.
        answer = await self._redis.until_ok(lambda: self._eval(step.key_names, step.arguments(changes.new_token())))
        done, reply, clock = cast(tuple[int, Any, int], answer)
        self._set_clock(shard, clock)
        return cast(list[int], reply) if done else Refused(_parse_position(reply))

    async def _eval(self, key_names: list[str], arguments: Sequence[Any]) -> Any:
        try:
            return await self._client.evalsha(SCRIPT_SHA, len(key_names), *key_names, *arguments)
        except NoScriptError:
            # The server was restarted or promoted. EVAL sends the script with the same call.
            return await self._client.eval(SCRIPT, len(key_names), *key_names, *arguments)

    def _expires(self, period: str) -> int:
        """The Unix second at which a period's keys expire: its end plus its retention; 0 for never."""
        if len(period) == 7:
            months = self._settings.retain_months
            if months == "forever":
                return 0
            return period_end(Month(int(period[:4]), int(period[5:])).plus(months).key, self._zone)
        days = self._settings.retain_days
        return 0 if days == "forever" else period_end(period, self._zone) + days * 86_400


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _numbers(flat: list[bytes]) -> dict[str, int]:
    """Numbers by realm."""
    return {fields.split(realm.decode())[0]: int(number) for realm, number in zip(flat[::2], flat[1::2], strict=True)}


def _parse_position(text: str) -> int | None:
    return int(text) if text else None
