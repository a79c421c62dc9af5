"""How the ledger stands: what its shards were counted with, how far they are, and how fresh and whole that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from schemas import fields
from schemas.keys import ShardKeys


class Observation(NamedTuple):
    """Something seen beside the log, and when."""

    value: int
    at_ms: int


class ShardStanding(NamedTuple):
    """One shard. `progress` has numbers by field; `position` is None where nothing was counted yet."""

    keys: ShardKeys
    meta: Mapping[str, str]
    position: int | None
    progress: Mapping[str, int]
    observed: Mapping[str, str]

    @classmethod
    def of(
        cls,
        keys: ShardKeys,
        meta: Mapping[bytes, bytes],
        position: bytes | None,
        progress: Mapping[bytes, bytes],
        observed: Mapping[bytes, bytes],
    ) -> ShardStanding:
        return cls(
            keys,
            {name.decode(): value.decode() for name, value in meta.items()},
            None if position is None else int(position),
            {name.decode(): int(value) for name, value in progress.items()},
            {name.decode(): value.decode() for name, value in observed.items()},
        )

    def seen(self, name: str) -> Observation | None:
        text = self.observed.get(name)
        return None if text is None else Observation(*fields.split_observation(text))

    @property
    def end(self) -> Observation | None:
        """The log's end when a worker last looked."""
        return self.seen(fields.END)

    @property
    def refused(self) -> Observation | None:
        """Scripts that were refused because the shard stood elsewhere, and when the last one was."""
        if fields.REFUSED not in self.observed:
            return None
        return Observation(int(self.observed[fields.REFUSED]), int(self.observed.get(fields.REFUSED_MS, 0)))

    @property
    def lag(self) -> int | None:
        """Offsets between the position and the log's end; None while nobody has looked."""
        return None if self.end is None else max(self.end.value - (self.position or 0), 0)

    @property
    def dead(self) -> dict[str, int]:
        """Dead letters by reason."""
        found = {fields.split(name): count for name, count in self.progress.items()}
        dead = fields.split(fields.dead(""))[0]
        return {parts[1]: count for parts, count in sorted(found.items()) if parts[0] == dead}


class Standing(NamedTuple):
    """All shards."""

    shards: Sequence[ShardStanding]

    @property
    def newest_event_ms(self) -> int | None:
        return max(self._progress(fields.LAST_EVENT), default=None)

    @property
    def lag(self) -> int | None:
        """Over all shards that somebody looked at."""
        lags = [shard.lag for shard in self.shards if shard.lag is not None]
        return sum(lags) if lags else None

    def complete(self, dimensions: Iterable[str]) -> bool:
        """Whether every label of these dimensions found room for figures of its own."""
        return not any(count for name in dimensions for count in self._progress(fields.overflowed(name)))

    def keeps(self, setting: str, dimension: str) -> bool:
        """Whether all that was counted was counted with `dimension` in `setting` (`users_by`, `counts_by`)."""
        return all(dimension in value.split(",") for value in self._settings(setting))

    def words(self, setting: str) -> list[str]:
        """All values that a listed setting has in any shard."""
        return sorted({word for value in self._settings(setting) for word in value.split(",") if word})

    def least(self, setting: str) -> int | None:
        """The smallest number that a setting has in any shard; None where all say `forever`, or there is none."""
        return min((int(value) for value in self._settings(setting) if value != "forever"), default=None)

    def since(self, settings: Iterable[str], after: datetime) -> dict[str, str]:
        """Which of `settings` hold only from some time `after` on, and from when."""
        found = {}
        for setting in settings:
            observed = [shard.meta.get(fields.since(setting)) for shard in self.shards]
            at_ms = max((fields.split_observation(text)[1] for text in observed if text is not None), default=0)
            if at_ms / 1000 > after.timestamp():
                found[setting.upper()] = rfc3339(at_ms)
        return found

    def _progress(self, name: str) -> list[int]:
        return [shard.progress[name] for shard in self.shards if name in shard.progress]

    def _settings(self, name: str) -> list[str]:
        return [shard.meta[name] for shard in self.shards if name in shard.meta]


HOUR_MS: Final = 3_600_000


class IdsHeld(NamedTuple):
    """The window in which a shard knows event ids again: hours since the Unix epoch, and how many ids."""

    first: int | None
    last: int | None
    ids: int
    given_up_before: int | None
    """The first hour of which no id was given up for want of room; None where none ever was."""

    @classmethod
    def of(cls, held: Mapping[bytes, bytes]) -> IdsHeld:
        numbers = {name.decode(): int(value) for name, value in held.items()}
        given_up = numbers.pop(fields.GIVEN_UP_BEFORE, None)
        hours = sorted(int(hour) for hour in numbers)
        return cls(hours[0] if hours else None, hours[-1] if hours else None, sum(numbers.values()), given_up)


def rfc3339(at_ms: int) -> str:
    """`2026-11-20T09:30:00.000Z`."""
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
