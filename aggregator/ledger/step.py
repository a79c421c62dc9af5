"""Arguments of ledger.lua: every key has a number, every addition names its key by that number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from aggregator.fold.deduplication import NOTHING_EVICTED, pack
from aggregator.fold.range_delta import RangeDelta
from aggregator.inventory.state import InventoryDelta
from aggregator.inventory.store import InventoryAdditions, script_arguments
from schemas.ledger import accuracy, fields, keys
from schemas.ledger.keys import ShardKeys
from schemas.ledger.scopes import OTHER

_encode: Final = msgspec.msgpack.Encoder().encode


class _Users(Struct):
    """New users of one (period, scope)."""

    sketches: int
    """Number of sketches, whose keys begin at `sketch`."""
    bound: int
    """Users that the small sets may hold together."""
    expires: int
    parts: dict[int, list[str]]
    """Digests by part 0…15."""
    sketch: int
    small: int | UnsetType
    """The first of the small sets' keys. Unset: the users are in sketches already."""


class _Counts(Struct):
    key: int
    fields: Mapping[str, int]
    expires: int


class _RecordTimes(Struct):
    key: int
    first: int
    last: int
    expires: int


class _Clients(Struct):
    key: int
    add: list[str]
    expires: int


class _Ids(Struct):
    """Ids of one hour; the digests are a blob of their own."""

    key: int
    hour: str
    """The field of the ids hash."""
    count: int
    realms: int | UnsetType = UNSET
    """The number of the key that holds the number of ids per realm."""
    by_realm: Mapping[str, int] | UnsetType = UNSET


class _DroppedIds(Struct):
    keys: list[int]
    hour: str


class _Unexpected(Struct):
    key: int
    add: list[str]
    clear: bool


class _Additions(Struct):
    """The script's ARGV[3], by the names that the script uses.

    Optional fields are left out when unset, since MessagePack's nil would be a value in Lua.
    """

    users: list[_Users] = []
    counts: list[_Counts] = []
    written: list[_RecordTimes] = []
    progress: Mapping[str, int] = {}
    unknown_types: list[str | int] = []
    """Field of progress and increment in turn, in log order."""
    unknown_most: int = fields.MAX_UNKNOWN_TYPES
    unknown_other: str = fields.unknown(OTHER)
    """The field of types beyond `unknown_most`."""
    index: dict[str, int | str] = {}
    """Period to the Unix second of its expiry."""
    labels: list[str] = []
    shares: Mapping[str, int] = {}
    meta: Mapping[str, str] = {}
    clients: list[_Clients] = []
    ids: list[_Ids] = []
    ids_dropped: list[_DroppedIds] = []
    ids_fields: Mapping[str, str] = {}
    """Fields to set in the ids hash."""
    unexpected: _Unexpected | UnsetType = UNSET
    first_event: int | UnsetType = UNSET
    last_event: int | UnsetType = UNSET
    first_record: int | UnsetType = UNSET
    last_record: int | UnsetType = UNSET
    inventory: InventoryAdditions | UnsetType = UNSET
    removals: str | UnsetType = UNSET
    """The number of removals of realms that meta must have; unset: any."""
    renew_epoch: bool | UnsetType = UNSET


class Step:
    """One call of ledger.lua under construction. `start` and `end` are positions; None stands for none."""

    def __init__(self, shard_keys: ShardKeys, start: int | None, end: int | None) -> None:
        self.key_names = [
            shard_keys.position,
            shard_keys.progress,
            shard_keys.index,
            shard_keys.labels,
            shard_keys.meta,
            shard_keys.ids,
            shard_keys.shares,
            shard_keys.changes,
        ]
        self._keys = shard_keys
        self._start = start
        self._end = end
        self._additions = _Additions()
        self._blobs: list[bytes] = []
        self._packed: bytes | None = None

    def arguments(self, token: str) -> list[str | bytes]:
        """The script's ARGV. `token` must be a new one for each call of the script, also for a repeated one."""
        start, end = ("" if at is None else str(at) for at in (self._start, self._end))
        if self._packed is None:
            self._packed = _encode(self._additions)
        return [start, end, self._packed, token, *self._blobs]

    def renew_epoch(self) -> None:
        """Invalidate all merged periods of the shard."""
        self._additions.renew_epoch = True

    def add_meta(self, meta: Mapping[str, str]) -> None:
        self._additions.meta = meta

    def require_removals(self, removals: str) -> None:
        """Write only if the shard's meta has this number of removals of realms; empty for none."""
        self._additions.removals = removals

    def add_progress(self, progress: Mapping[str, int]) -> None:
        self._additions.progress = progress

    def change_unexpected(self, offsets: Iterable[int] = (), *, clear: bool = False) -> None:
        """Add offsets of unexpected records; `clear` removes the stored ones first."""
        key = self._key(self._keys.unexpected)
        self._additions.unexpected = _Unexpected(key, list(map(str, offsets)), clear)

    def add_delta(
        self, delta: RangeDelta, in_sketches: AbstractSet[tuple[str, Any]], bound: int, expiry: Callable[[str], int]
    ) -> None:
        """Add a range. `bound` is EXACT_UP_TO; `expiry` returns a period's Unix second of expiry, 0 for never."""
        additions = self._additions
        if delta.unexpected:
            self.change_unexpected(sorted(delta.unexpected))
        self._add_users(delta, in_sketches, bound, expiry)
        for (period, scope), increments in delta.counts.items():
            key = self._key(self._keys.counts(period, scope))
            additions.counts.append(_Counts(key, increments, expiry(period)))
        for day, (first, last) in delta.record_times.items():
            key = self._key(self._keys.record_times(day))
            additions.written.append(_RecordTimes(key, first, last, expiry(day)))
        for period, digests in delta.clients.items():
            key = self._key(self._keys.clients(period))
            additions.clients.append(_Clients(key, list(digests), expiry(period)))
        self._add_ids(delta)
        if isinstance(delta, InventoryDelta):
            additions.inventory, blob = script_arguments(self._keys, self._key, delta.inventory)
            # The script expects it last.
            self._blobs.append(blob)
        additions.progress = delta.progress
        for name, more in delta.unknown_types.items():
            additions.unknown_types += [fields.unknown(name), more]
        additions.index = {period: expiry(period) or "+inf" for period in delta.periods}
        additions.labels = list(delta.labels)
        additions.shares = delta.shares
        additions.first_event = _or_unset(delta.first_event_ms)
        additions.last_event = _or_unset(delta.last_event_ms)
        additions.first_record = _or_unset(delta.first_record_ms)
        additions.last_record = _or_unset(delta.last_record_ms)

    def _add_users(
        self, delta: RangeDelta, in_sketches: AbstractSet[tuple[str, Any]], bound: int, expiry: Callable[[str], int]
    ) -> None:
        names = self._keys
        for (period, scope), parts in delta.users.items():
            small: int | UnsetType = UNSET
            if (period, scope) not in in_sketches:
                small = self._first_key(names.small_set(period, scope, part) for part in range(keys.SMALL_PARTS))
            sketches = accuracy.sketches(period, scope)
            sketch = self._first_key(names.users(period, scope, part) for part in range(sketches))
            digests = {part: held for part, held in enumerate(parts) if held}
            self._additions.users.append(_Users(sketches, bound, expiry(period), digests, sketch, small))

    def _add_ids(self, delta: RangeDelta) -> None:
        names, dedupe, additions, set_fields = self._keys, delta.dedupe, self._additions, dict[str, str]()
        for hour in dedupe.dropped:
            dropped = [self._key(names.ids_of(hour)), self._key(names.id_realms_of(hour))]
            additions.ids_dropped.append(_DroppedIds(dropped, str(hour)))
        for hour, digests in dedupe.new.items():
            ids = _Ids(self._key(names.ids_of(hour)), str(hour), len(digests))
            if hour in dedupe.realms:
                ids.realms = self._key(names.id_realms_of(hour))
                ids.by_realm = {fields.realm(realm): number for realm, number in dedupe.realms[hour].items()}
            additions.ids.append(ids)
            self._blobs.append(pack(digests))
        if dedupe.evicted_before != NOTHING_EVICTED:
            set_fields[fields.EVICTED_BEFORE] = str(dedupe.evicted_before)
        excess = dedupe.excess
        if excess is not None:
            for hour in excess.dropped:
                key = self._key(names.excess_ids_of(hour))
                additions.ids_dropped.append(_DroppedIds([key], fields.excess(str(hour))))
            for hour, digests in excess.new.items():
                key = self._key(names.excess_ids_of(hour))
                additions.ids.append(_Ids(key, fields.excess(str(hour)), len(digests)))
                self._blobs.append(pack(digests))
            if excess.evicted_before != NOTHING_EVICTED:
                set_fields[fields.excess(fields.EVICTED_BEFORE)] = str(excess.evicted_before)
        additions.ids_fields = set_fields

    def _key(self, name: str) -> int:
        """The number of a key in KEYS."""
        self.key_names.append(name)
        return len(self.key_names)

    def _first_key(self, names: Iterable[str]) -> int:
        """The number of the first of several keys; the others follow it."""
        first = len(self.key_names) + 1
        self.key_names += names
        return first


def _or_unset(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value
