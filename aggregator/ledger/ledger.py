"""The ledger in Redis: one atomic step from one position to the next, and nothing else ever writes counts.

The script beside this file writes only when the stored position equals the start of the range. So a range applied
twice, too late, out of order or by a worker that lost its partition writes nothing and is told where the shard stands.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Final, TypeVar, cast

import msgspec
import structlog
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from aggregator.fold.deduplication import NOTHING_EVICTED, SeenIds, pack
from aggregator.fold.range_delta import RangeDelta
from aggregator.inventory.store import script_arguments
from aggregator.ledger.store import UNREACHABLE, Client, as_connection_errors, describe_error
from aggregator.settings import WorkerSettings
from schemas.connections.redis_replies import Remedy, leave_server, reply_of
from schemas.ledger import accuracy, fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month, period_end
from schemas.time.clock import SYSTEM, Clock

log = structlog.get_logger(__name__)

SCRIPT: Final = resources.files("aggregator.ledger").joinpath("ledger.lua").read_text()
SCRIPT_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
# What a fold needs of a shard, and the position it holds at, read in one step.
READ_STATE: Final = """
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', redis.call('SMEMBERS', KEYS[2]), redis.call('HGETALL', KEYS[3]),
        redis.call('HGETALL', KEYS[4]), redis.call('SMEMBERS', KEYS[5]), time[1] * 1000 + math.floor(time[2] / 1000)}
"""
# The key decides which node of a Cluster answers.
TIME: Final = """
local time = redis.call('TIME')
return {KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000)}
"""
READ_IDS: Final = """
local found = {redis.call('GET', KEYS[1]) or ''}
for number = 2, #KEYS do
  found[number] = redis.call('GET', KEYS[number]) or ''
end
return found
"""

MIN_PAUSE_S: Final = 0.1
CLOCK_AGE_S: Final = 60.0
"""A store's TIME is asked again when it is older: a script usually brings a newer one."""
MAX_PAUSE_S: Final = 0.5
"""A store that is back, or has a new primary, is found after this long at most."""

T = TypeVar("T")


class LedgerDefectError(Exception):
    """A key of a shard is not what it must be, or a script failed: a retry cannot help, and nothing was written."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """What a shard holds at one moment."""

    position: int | None
    labels: frozenset[str]
    meta: Mapping[str, str]
    ids: Mapping[str, str] = field(default_factory=dict)
    """Its ids hash: which hours of event ids it holds."""
    unexpected: frozenset[int] = frozenset()
    """Offsets of records that no fold could count."""

    @property
    def unexpected_allowed(self) -> int:
        return int(self.meta.get(fields.UNEXPECTED_ALLOWED, fields.ALLOWED_AT_FIRST))


@dataclass(frozen=True, slots=True)
class Applied:
    """The range is in. `in_sketches` are the (period, scope) whose users are few no more."""

    in_sketches: frozenset[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was written: the shard stands at `position`; None when it holds nothing at all."""

    position: int | None


class Ledger:
    """Reads positions and applies tallies. Waits for Redis as long as it takes, and says so."""

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
        self._on_error = on_error or (lambda _: None)
        self._expiry = lru_cache(maxsize=4096)(self._expires)
        self._encode = msgspec.msgpack.Encoder().encode
        self._monotonic = clock.monotonic
        self._clocks: dict[Shard, tuple[int, float]] = {}
        """The TIME that each shard's store answered last, Unix ms, and when."""

    def keys(self, shard: Shard) -> ShardKeys:
        return ShardKeys(self._settings.key_prefix, shard)

    async def read_state(self, shard: Shard) -> ShardState:
        """Position, labels, meta and hours of ids of a shard as of one moment. Raises LedgerDefectError."""
        shard_keys = self.keys(shard)
        key_names = (shard_keys.position, shard_keys.labels, shard_keys.meta, shard_keys.ids, shard_keys.unexpected)
        answer = await self._retry_until_ok(lambda: self._client.eval(READ_STATE, len(key_names), *key_names))
        position, labels, meta, ids, unexpected, clock = cast(
            tuple[str, list[str], list[str], list[str], list[str], int], answer
        )
        self._set_clock(shard, clock)
        return ShardState(
            _parse_position(position), frozenset(labels), _pairs(meta), _pairs(ids), frozenset(map(int, unexpected))
        )

    async def now_ms(self, shard: Shard, max_age_s: float = CLOCK_AGE_S) -> int:
        """The clock of the shard's store, Unix ms: its last TIME plus the monotonic time since. Waits for Redis."""
        clock = self._clocks.get(shard)
        if clock is None or self._monotonic() - clock[1] > max_age_s:
            key = self.keys(shard).position
            _, answered = await self._retry_until_ok(lambda: cast(Any, self._client.eval(TIME, 1, key)))
            clock = self._set_clock(shard, answered)
        return clock[0] + int((self._monotonic() - clock[1]) * 1000)

    def _set_clock(self, shard: Shard, ms: int) -> tuple[int, float]:
        clock = self._clocks[shard] = (ms, self._monotonic())
        return clock

    async def read_seen_ids(self, shard: Shard, state: ShardState) -> SeenIds | None:
        """The ids of events that a shard holds where `state` found it; None when it stands elsewhere by now."""
        ids = dict(state.ids)
        given_up_before = int(ids.pop(fields.EVICTED_BEFORE, NOTHING_EVICTED))
        hours = sorted(map(int, ids))
        if not hours:
            return SeenIds({}, given_up_before)
        shard_keys = self.keys(shard)
        key_names = [shard_keys.position, *map(shard_keys.ids_of, hours)]
        # Digests are bytes, all else is text.
        position, *digests = await self.read(READ_IDS, key_names)
        if _parse_position(position.decode()) != state.position:
            return None
        return SeenIds.from_packed(dict(zip(hours, digests, strict=True)), given_up_before)

    async def read(self, script: str, key_names: Sequence[str], *arguments: bytes) -> list[Any]:
        """What a script answers that only reads, as bytes. Waits for Redis for ever."""
        # Hashing and sending a short script costs less than losing it.
        answer = await self._retry_until_ok(
            lambda: self._client.execute_command(
                "EVAL", script, len(key_names), *key_names, *arguments, **{NEVER_DECODE: True}
            )
        )
        return cast(list[Any], answer)

    async def positions(self, shards: Iterable[Shard]) -> dict[Shard, int]:
        """Positions of the shards that have one. Raises one of UNREACHABLE: who asks has a timer and asks again."""
        asked = list(shards)
        found = await self._once(
            lambda: asyncio.gather(*(self._client.get(self.keys(shard).position) for shard in asked))
        )
        return {shard: int(at) for shard, at in zip(asked, found, strict=True) if at is not None}

    async def initialize(self, shard: Shard, start: int, topic_id: str) -> Applied | Refused:
        """Register a shard that has no position and set its first one. Safe to repeat."""
        # The registry lives in another slot, so it cannot be part of the step. Before it: a crash in between leaves a
        # registered shard that holds nothing, which readers add up to zero; after it, figures that nobody would find.
        await self._retry_until_ok(lambda: self.register([shard]))
        meta = self._settings.counted_with(shard.topic) | {"topic_id": topic_id}
        return await self._apply_step(shard, "", str(start), meta=meta)

    async def register(self, shards: Iterable[Shard]) -> None:
        """Have readers know these shards. Raises one of UNREACHABLE.

        To be repeated now and then: the registry may fall back to before it knew a shard, on a node that is not the
        shard's own.
        """
        tags = [shard.tag for shard in shards]
        if tags:
            await self._once(lambda: cast(Any, self._client.sadd(keys.shards(self._settings.key_prefix), *tags)))

    async def skip_lost(self, shard: Shard, start: int, end: int) -> Applied | Refused:
        """Move past offsets that Kafka no longer has, and count them as lost."""
        return await self._apply_step(shard, str(start), str(end), progress={fields.LOST: end - start})

    async def adopt_settings(self, shard: Shard, at: int | None, meta: Mapping[str, str]) -> Applied | Refused:
        """Record changed settings in a shard that stands at `at`, without moving it."""
        return await self._apply_step(shard, "" if at is None else str(at), "", meta=meta)

    async def move_position(
        self, shard: Shard, start: int | None, end: int, meta: Mapping[str, str], *, other_log: bool = False
    ) -> Applied | Refused:
        """Put a shard's position elsewhere because an operator said so: records count twice, or not at all.

        With `other_log` the offsets of unexpected records are dropped: they are of a topic that is no more.
        """
        start_text = "" if start is None else str(start)
        return await self._apply_step(shard, start_text, str(end), meta=meta, clear_unexpected=other_log)

    async def apply(
        self,
        shard: Shard,
        start: int,
        delta: RangeDelta,
        in_sketches: AbstractSet[tuple[str, Any]] = frozenset(),
        *,
        meta: Mapping[str, str] | None = None,
    ) -> Applied | Refused:
        """Add one tally and move the position from `start` to its end, in one step.

        `in_sketches` may name (period, scope) known to have outgrown their small sets; leaving one out costs a few
        keys, nothing else. `meta` is written in the same step: what a shard of an older format lacks. Sending the same
        tally again is safe: the position decides. Waits for Redis for ever, and raises LedgerDefectError.
        """
        return await self._apply_step(shard, str(start), str(delta.end), delta, in_sketches=in_sketches, meta=meta)

    async def record_refusal(self, shard: Shard, at_ms: int) -> None:
        """Write down that a script was refused. Counted twice when an answer is lost."""
        observed = self.keys(shard).observed
        await self._retry_until_ok(lambda: self._client.hincrby(observed, fields.REFUSED, 1))
        await self._retry_until_ok(lambda: self._client.hset(observed, fields.REFUSED_MS, str(at_ms)))

    async def record_observations(self, shard: Shard, observations: Mapping[str, str]) -> None:
        """Write down what was seen beside the log (fields of `observed`). Raises one of UNREACHABLE."""
        await self._once(lambda: self._client.hset(self.keys(shard).observed, mapping=cast(Any, dict(observations))))

    async def _apply_step(
        self,
        shard: Shard,
        start: str,
        end: str,
        delta: RangeDelta | None = None,
        *,
        in_sketches: AbstractSet[tuple[str, Any]] = frozenset(),
        progress: Mapping[str, int] | None = None,
        meta: Mapping[str, str] | None = None,
        clear_unexpected: bool = False,
    ) -> Applied | Refused:
        shard_keys = self.keys(shard)
        key_names = [
            shard_keys.position,
            shard_keys.progress,
            shard_keys.index,
            shard_keys.labels,
            shard_keys.meta,
            shard_keys.ids,
        ]
        blobs: list[bytes] = []
        users: list[dict[str, Any]] = []
        counts: list[dict[str, Any]] = []
        written: list[dict[str, Any]] = []
        script_input: dict[str, Any] = {
            "users": users,
            "counts": counts,
            "written": written,
            "progress": progress or {},
            "index": {},
            "labels": [],
            "meta": meta or {},
            "clients": [],
            "ids": [],
            "ids_dropped": [],
        }
        unexpected = sorted(delta.unexpected) if delta is not None else []
        if unexpected or clear_unexpected:
            key_names.append(shard_keys.unexpected)
            script_input["unexpected"] = {
                "key": len(key_names),
                "add": list(map(str, unexpected)),
                "clear": clear_unexpected,
            }
        if delta is not None:
            for (period, scope), parts in delta.users.items():
                k = accuracy.sketches(period, scope)
                entry: dict[str, Any] = {
                    "sketches": k,
                    "bound": self._settings.exact_up_to,
                    "expires": self._expiry(period),
                    "parts": {part: ids for part, ids in enumerate(parts) if ids},
                }
                if (period, scope) not in in_sketches:
                    entry["small"] = len(key_names) + 1
                    key_names += [shard_keys.small_set(period, scope, part) for part in range(keys.SMALL_PARTS)]
                entry["sketch"] = len(key_names) + 1
                key_names += [shard_keys.users(period, scope, part) for part in range(k)]
                users.append(entry)
            for (period, scope), more in delta.counts.items():
                key_names.append(shard_keys.counts(period, scope))
                counts.append({"key": len(key_names), "fields": more, "expires": self._expiry(period)})
            for day, (first, last) in delta.record_times.items():
                key_names.append(shard_keys.record_times(day))
                written.append({"key": len(key_names), "first": first, "last": last, "expires": self._expiry(day)})
            for period, digests in delta.clients.items():
                key_names.append(shard_keys.clients(period))
                script_input["clients"].append(
                    {"key": len(key_names), "add": list(digests), "expires": self._expiry(period)}
                )
            for hour in delta.dedupe.dropped:
                key_names.append(shard_keys.ids_of(hour))
                script_input["ids_dropped"].append({"key": len(key_names), "hour": str(hour)})
            for hour, hour_digests in delta.dedupe.new.items():
                key_names.append(shard_keys.ids_of(hour))
                script_input["ids"].append({"key": len(key_names), "hour": str(hour), "count": len(hour_digests)})
                blobs.append(pack(hour_digests))
            if delta.dedupe.evicted_before != NOTHING_EVICTED:
                script_input["ids_given_up_before"] = str(delta.dedupe.evicted_before)
            if delta.inventory is not None:
                script_input["inventory"] = script_arguments(shard_keys, key_names, blobs, delta.inventory)
            script_input |= {
                "progress": delta.progress,
                "index": {period: self._expiry(period) or "+inf" for period in delta.periods},
                "labels": list(delta.labels),
                "first_event": delta.first_event_ms,
                "last_event": delta.last_event_ms,
                "first_record": delta.first_record_ms,
                "last_record": delta.last_record_ms,
            }
            # MessagePack's nil would be a value in Lua; what is not there must be left out.
            script_input = {name: value for name, value in script_input.items() if value is not None}
        answer = await self._retry_until_ok(
            lambda: self._run(key_names, start, end, self._encode(script_input), *blobs)
        )
        done, reply, clock = cast(tuple[int, Any, int], answer)
        self._set_clock(shard, clock)
        if not done:
            return Refused(_parse_position(reply))
        if delta is None:
            return Applied(frozenset())
        scopes = list(delta.users)
        return Applied(frozenset(scopes[number - 1] for number in reply))

    async def _run(self, key_names: list[str], *arguments: Any) -> Any:
        try:
            return await self._client.evalsha(SCRIPT_SHA, len(key_names), *key_names, *arguments)
        except NoScriptError:
            # A restarted or newly promoted server. EVAL sends it along with the very same call.
            return await self._client.eval(SCRIPT, len(key_names), *key_names, *arguments)

    async def _once(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Ask, and leave a server whose reply says to ask elsewhere. Raises one of UNREACHABLE."""
        try:
            with as_connection_errors():
                return await operation()
        except UNREACHABLE as error:
            await leave_server(self._client, error, self._settings.redis_url.get_secret_value())
            raise

    async def _retry_until_ok(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Ask until Redis answers. The outcome of a lost answer is unknown; asking again is what settles it.

        Raises LedgerDefectError.
        """
        pause, failures = MIN_PAUSE_S, 0
        while True:
            try:
                answer = await self._once(operation)
            except UNREACHABLE as error:
                if (reply := reply_of(error)) and reply.remedy is Remedy.DEFECT:
                    self._on_error(None)
                    raise LedgerDefectError(str(error)) from error
                description = describe_error(error)
                self._on_error(description)
                failures += 1
                # The 1st, 2nd, 4th, 8th …: an hour without a store is a dozen lines, not thousands.
                if failures & (failures - 1) == 0:
                    log.warning("redis does not do its part", error=description, failures=failures, retry_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE_S)
            else:
                self._on_error(None)
                return answer

    def _expires(self, period: str) -> int:
        """The Unix second at which a period's keys go, 0 for never: its end plus its retention."""
        if len(period) == 7:
            months = self._settings.retain_months
            if months == "forever":
                return 0
            return period_end(Month(int(period[:4]), int(period[5:])).plus(months).key, self._zone)
        days = self._settings.retain_days
        return 0 if days == "forever" else period_end(period, self._zone) + days * 86_400


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _parse_position(text: str) -> int | None:
    return int(text) if text else None
