"""The status of the ledger's shards: their settings, position, lag and completeness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from schemas.ledger import fields
from schemas.ledger.keys import ShardKeys

MAX_COUNT: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact. No real count or offset is larger."""
MAX_MS: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000)


class Observation(NamedTuple):
    """An observed value with its time; None for a part that is missing or not a number."""

    value: int | None
    at_ms: int | None

    @classmethod
    def of(cls, text: str) -> Observation:
        value, _, at_ms = text.partition(" ")
        return cls(whole(integer(value)), integer(at_ms))


class ShardStatus(NamedTuple):
    """One shard. `position` is None before its first range.

    `progress` has the ledger's numbers by field, None for a value that is not a number: a format 1 worker stored record
    timestamps unchecked.
    """

    keys: ShardKeys
    meta: Mapping[str, str]
    position: int | None
    progress: Mapping[str, int | None]
    observed: Mapping[str, str]
    unexpected: int = 0
    """Number of unexpected records."""
    region: str = ""
    """The region that exported the status; empty for the own ledger."""

    @classmethod
    def of(
        cls,
        keys: ShardKeys,
        meta: Mapping[bytes, bytes],
        position: bytes | None,
        progress: Mapping[bytes, bytes],
        observed: Mapping[bytes, bytes],
        unexpected: int = 0,
    ) -> ShardStatus:
        return cls(
            keys,
            _decoded(meta),
            None if position is None else integer(_text(position)),
            {name: integer(value) for name, value in _decoded(progress).items()},
            _decoded(observed),
            unexpected,
        )

    @property
    def is_of_peer(self) -> bool:
        """Whether another region exported the status."""
        return bool(self.region) and self.topic != self.keys.shard.topic

    @property
    def topic(self) -> str:
        """The topic's name in its region."""
        return self.keys.shard.topic.removeprefix(f"{self.region}/")

    def counter(self, name: str) -> int | None:
        """A counter of progress: 0 if it is absent, None if the stored value cannot be a count."""
        return whole(self.progress.get(name, 0))

    def observation(self, name: str) -> Observation | None:
        text = self.observed.get(name)
        return None if text is None else Observation.of(text)

    @property
    def end(self) -> Observation | None:
        """The log's end when a worker last read it."""
        return self.observation(fields.END)

    @property
    def refused(self) -> Observation | None:
        """Number of refused scripts (the position was not the range's start), and the time of the last one."""
        if fields.REFUSED not in self.observed:
            return None
        refused, at_ms = self.observed[fields.REFUSED], self.observed.get(fields.REFUSED_MS, "")
        return Observation(whole(integer(refused)), integer(at_ms))

    @property
    def lag(self) -> int | None:
        """Offsets between the position and the log's end; None before a worker has read the end."""
        if self.end is None or self.end.value is None:
            return None
        return max(self.end.value - (self.position or 0), 0)

    @property
    def dead(self) -> dict[str, int | None]:
        """Dead letters by reason; None for a value that is not a count."""
        return self._by_name(fields.dead(""))

    @property
    def unknown(self) -> dict[str, int | None]:
        """Ignored elements by unknown event type; None for a value that is not a count."""
        return self._by_name(fields.unknown(""))

    def _by_name(self, prefix: str) -> dict[str, int | None]:
        found = {fields.split(name): whole(count) for name, count in self.progress.items()}
        kind = fields.split(prefix)[0]
        return {parts[1]: found[parts] for parts in sorted(found) if parts[0] == kind and len(parts) == 2}

    @property
    def unexpected_allowed(self) -> int | None:
        """The partition stops beyond this number of unexpected records; None if the stored value is not a count."""
        allowed = self.meta.get(fields.UNEXPECTED_ALLOWED)
        return fields.ALLOWED_AT_FIRST if allowed is None else whole(integer(allowed))


class PipelineStatus(NamedTuple):
    """The status of all shards."""

    shards: Sequence[ShardStatus]

    @property
    def newest_event_ms(self) -> int | None:
        """The newest event time (Unix ms). Times that cannot be a date are skipped."""
        found = (shard.progress.get(fields.LAST_EVENT) for shard in self.shards)
        return max((at_ms for at_ms in found if at_ms is not None and is_date(at_ms)), default=None)

    @property
    def lag(self) -> int | None:
        """Sum over all shards with a known lag; None if there are none."""
        lags = [shard.lag for shard in self.shards if shard.lag is not None]
        return sum(lags) if lags else None

    def labels_complete(self, dimensions: Iterable[str]) -> bool:
        """Whether every label of these dimensions has its own figures, none under OTHER."""
        return not any(self.overflowed(name) for name in dimensions)

    def overflowed(self, dimension: str) -> list[ShardStatus]:
        """The shards that had no room for some labels of a dimension."""
        return [shard for shard in self.shards if shard.counter(fields.overflowed(dimension)) != 0]

    def keeps_dimension(self, setting: str, dimension: str) -> bool:
        """Whether all shards have `dimension` in `setting` (`users_by`, `counts_by`)."""
        return all(dimension in value.split(",") for value in self._settings(setting))

    def region_without(self, setting: str, dimension: str) -> str:
        """The region of the first shard that does not have `dimension` in `setting`; empty for the own one."""
        found = (shard for shard in self.shards if dimension not in shard.meta.get(setting, dimension).split(","))
        return next((shard.region for shard in found), "")

    def region_of_minimum(self, setting: str) -> str:
        """The region of a shard with the smallest number of a setting; empty for the own one."""
        smallest = str(self.minimum_setting(setting))
        return next((shard.region for shard in self.shards if shard.meta.get(setting) == smallest), "")

    def setting_values(self, setting: str) -> list[str]:
        """All items of a list setting, over all shards."""
        return sorted({word for value in self._settings(setting) for word in value.split(",") if word})

    def minimum_setting(self, setting: str) -> int | None:
        """The smallest number of a setting over all shards; None if all have `forever`, or there is no shard."""
        return min((int(value) for value in self._settings(setting) if value != "forever"), default=None)

    def since(self, settings: Iterable[str], after: datetime) -> dict[str, str | None]:
        """Those of `settings` whose present value began after `after`, with that time; None for an unknown time."""
        found: dict[str, str | None] = {}
        for setting in settings:
            observed = [shard.meta.get(fields.since(setting)) for shard in self.shards]
            times = [Observation.of(text).at_ms for text in observed if text is not None]
            known = [at_ms for at_ms in times if at_ms is not None and is_date(at_ms)]
            if len(known) < len(times):
                found[setting.upper()] = None
            elif known and max(known) / 1000 > after.timestamp():
                found[setting.upper()] = rfc3339(max(known))
        return found

    def _settings(self, name: str) -> list[str]:
        return [shard.meta[name] for shard in self.shards if name in shard.meta]


HOUR_MS: Final = 3_600_000


class HeldIds(NamedTuple):
    """The window in which a shard deduplicates event ids: hours since the Unix epoch, and the number of ids."""

    first: int | None
    last: int | None
    ids: int
    evicted_before: int | None
    """The first hour from which no id was evicted by the size limit; None if none ever was."""

    @classmethod
    def of(cls, held: Mapping[bytes, bytes]) -> HeldIds:
        ids, hours, evicted = 0, set[int](), []
        for name, value in _decoded(held).items():
            # Ids beyond their realm's share have hours of their own.
            field, number = fields.split(name)[-1], integer(value)
            hour = integer(field)
            if field == fields.EVICTED_BEFORE and number is not None:
                evicted.append(number)
            elif hour is not None and is_date(hour * HOUR_MS):
                hours.add(hour)
                ids += whole(number) or 0
        return cls(min(hours, default=None), max(hours, default=None), ids, max(evicted, default=None))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _decoded(found: Mapping[bytes, bytes]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in found.items()}


def integer(text: str) -> int | None:
    """A decimal integer of 64 bits, as Redis writes it; None for any other text."""
    if len(text) > 20 or not text.removeprefix("-").isdecimal() or not text.isascii():
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def whole(value: int | None) -> int | None:
    """The value if it can be a count or an offset, else None."""
    return value if value is not None and 0 <= value <= MAX_COUNT else None


def is_date(at_ms: int) -> bool:
    """Whether a Unix time in ms is within 1970 to 9999."""
    return 0 <= at_ms <= MAX_MS


def rfc3339(at_ms: int) -> str:
    """`2026-11-20T09:30:00.000Z`; requires `is_date`."""
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def shown(at_ms: int | None) -> str | None:
    """A time of the ledger as RFC 3339; None for None, or for a value that cannot be a date."""
    return rfc3339(at_ms) if at_ms is not None and is_date(at_ms) else None
