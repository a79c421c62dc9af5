"""Which periods the shards hold, and a vector (`vector.py`) for each closed one that may be merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from api.ledger.client import Command, chunks
from api.ledger.distinct_query import DistinctQuery, ShardScope
from api.ledger.merged import MIN_SHARDS
from api.ledger.status import integer
from api.ledger.vector import Slice, Unit, Vector
from api.turns import pause
from schemas.events import MAX_AHEAD
from schemas.ledger import accuracy, fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope

DAY_S: Final = 86_400
"""A period that expires sooner is not merged: by another server's clock its keys may be gone before its index entry."""
RESTORING: Final = b"%d" % fields.RESTORING
MAX_PERIODS: Final = 2_000
"""Most periods of one script: Lua unpacks about 8,000 values at most."""
READ_EXPIRIES: Final = """
return {redis.call('TIME')[1], redis.call('HGET', KEYS[2], ARGV[1]), redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 2)),
        redis.call('GET', KEYS[3]) or '', redis.call('HMGET', KEYS[4], 'epoch', unpack(ARGV, 2))}
"""
"""Returns the store's Unix second, the newest record's timestamp, the expiry of each period, position, epoch, tokens.

One script, so that in a Cluster the time comes from the node that has the index.
"""

Run = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Sends commands in pipelines of bounded size; replies in order."""


class HeldPeriods(NamedTuple):
    """The shards that hold each period. Periods that no shard holds are missing."""

    shards: Mapping[str, Sequence[ShardKeys]]
    """By period."""
    known_by: Mapping[Scope, Collection[Shard]] = {}
    """The only shards that know a scope; a missing scope may be in any shard."""
    vectors: Mapping[str, Vector] = {}
    """Closed periods that may be merged."""

    def shard_scopes(self, period: str, scopes: Iterable[Scope]) -> Iterator[ShardScope]:
        for shard in self.shards.get(period, ()):
            for scope in scopes:
                known_to = self.known_by.get(scope)
                if known_to is None or shard.shard in known_to:
                    yield ShardScope(shard, period, scope)

    def distinct_query(self, periods: Sequence[str], scopes: Sequence[Scope]) -> DistinctQuery:
        """The query for the distinct users of all these periods and scopes together."""
        sketches = {accuracy.sketches(period, scope) for period in periods for scope in scopes}
        return DistinctQuery(
            lambda: (unit for period in periods for unit in self.shard_scopes(period, scopes)),
            min(sketches, default=accuracy.K_OTHERS),
            self.units(periods, scopes),
            periods=tuple(periods),
            scopes=tuple(scopes),
        )

    async def number_of_reads(self, periods: Iterable[str], scopes: Iterable[Scope]) -> int:
        """The number of `shard_scopes` of all these periods, without making them."""
        anywhere, known = 0, Counter[Shard]()
        for scope in scopes:
            await pause()
            known_to = self.known_by.get(scope)
            if known_to is None:
                anywhere += 1
            else:
                known.update(known_to)
        return sum(anywhere + known[shard.shard] for period in periods for shard in self.shards.get(period, ()))

    def query_of(self, units: Sequence[Unit], parts: int) -> DistinctQuery:
        """The query for the distinct users of single periods and scopes together, in `parts` parts."""
        return DistinctQuery(
            lambda: (found for period, scope in units for found in self.shard_scopes(period, [scope])),
            parts,
            {unit: self.vectors[unit[0]] for unit in units if unit[0] in self.vectors},
        )

    def units(self, periods: Iterable[str], scopes: Collection[Scope]) -> dict[Unit, Vector]:
        """The periods and scopes that may be merged."""
        return {
            (period, scope): self.vectors[period] for period in periods if period in self.vectors for scope in scopes
        }


async def find_periods(run: Run, shards: Sequence[ShardKeys], ledger_id: bytes, periods: Iterable[str]) -> HeldPeriods:
    """The periods that are held. Without a ledger's id none of them may be merged."""
    found: dict[str, Sequence[ShardKeys]] = {}
    vectors: dict[str, Vector] = {}
    for some in chunks(dict.fromkeys(periods), MAX_PERIODS):
        held = await _find_some(run, shards, ledger_id, some)
        found |= held.shards
        vectors |= held.vectors
    return HeldPeriods(found, vectors=vectors)


async def _find_some(run: Run, shards: Sequence[ShardKeys], ledger_id: bytes, periods: Sequence[str]) -> HeldPeriods:
    commands: list[Command] = [
        (
            "EVAL_RO",
            READ_EXPIRIES,
            4,
            shard_keys.index,
            shard_keys.progress,
            shard_keys.position,
            shard_keys.changes,
            fields.LAST_RECORD,
            *periods,
        )
        for shard_keys in shards
    ]
    replies = await run(commands)
    found: dict[str, list[ShardKeys]] = {}
    unlisted: list[tuple[str, ShardKeys]] = []
    closing: dict[str, list[tuple[ShardKeys, Slice]]] = {}
    earliest = min((int(reply[0]) for reply in replies), default=0)
    for period in periods if ledger_id else ():
        await pause()
        if is_closed(period, earliest):
            closing[period] = []
    for shard, (now, last_record, scores, position, tokens) in zip(shards, replies, strict=True):
        await pause()
        pruned = _may_lack_periods(last_record, int(now))
        epoch = b"" if position == RESTORING else tokens[0] or b""
        for period, score, token in zip(periods, scores, tokens[1:], strict=True):
            if period in closing:
                closing[period].append((shard, (epoch, token or b"", score or b"")))
                if score is not None and int(now) < float(score) < int(now) + DAY_S:
                    del closing[period]
        for period, score in zip(periods, scores, strict=True):
            # The score is the period's expiry; then its keys are gone, although the index may still list it.
            if score is not None and float(score) > int(now):
                found.setdefault(period, []).append(shard)
            elif score is None and pruned:
                unlisted.append((period, shard))
    for (period, shard), there in zip(unlisted, await _exist(run, unlisted), strict=True):
        if there:
            found.setdefault(period, []).append(shard)
    for period, _ in unlisted:
        closing.pop(period, None)
    vectors = {}
    for period, slices in closing.items():
        await pause()
        if len(found.get(period, ())) >= MIN_SHARDS:
            vector = Vector.of(ledger_id, slices, found[period])
            if vector is not None:
                vectors[period] = vector
    return HeldPeriods(found, vectors=vectors)


async def _exist(run: Run, unlisted: Sequence[tuple[str, ShardKeys]]) -> list[bool]:
    """For each period and shard, whether keys exist although the index does not list them."""
    commands: list[Command] = []
    for period, shard in unlisted:
        unit = ShardScope(shard, period, EVERYTHING)
        # A day always has record times; a month may have only users.
        others = (
            [shard.record_times(period)]
            if len(period) > len("2026-11")
            else [unit.first_sketch, *unit.small_sets(0, 1)]
        )
        commands.append(("EXISTS", shard.counts(period, EVERYTHING), *others))
    return [found > 0 for found in await run(commands)]


def is_closed(period: str, now: int) -> bool:
    """Whether the period has ended in every time zone. Only for speed: a period that changes is merged again."""
    return period < datetime.fromtimestamp(now - DAY_S, UTC).date().isoformat()[: len(period)]


def _may_lack_periods(last_record: bytes | None, now: int) -> bool:
    """Whether a format 1 worker may have pruned the index too early, by a record timestamp in the future.

    A newest record that is more than MAX_AHEAD ahead of the store's clock has no other cause.
    """
    at_ms = None if last_record is None else integer(last_record.decode(errors="replace"))
    return at_ms is not None and at_ms > (now + MAX_AHEAD.total_seconds()) * 1000
