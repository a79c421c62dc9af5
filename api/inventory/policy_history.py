"""History of the recording policies: every change is kept, because rows are filtered when they are read.

`token_total` is valid for all time, as LinOTP evaluates it; a status from the first read of its policy; the policies
of the very first read from the beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from api.ledger.client import UNREACHABLE, Client
from api.metrics import REDIS_ERRORS
from api.settings.reporting_policy import RECORD_EVERYTHING, Policies, RecordingPolicy, decode
from api.settings.watched_file import CHECK_INTERVAL_S, WatchedFile
from schemas.ledger.inventory import COUNTED_STATUSES, WRITTEN_STATUSES, canonical_status
from schemas.ledger.keys import recordings
from schemas.time.clock import Clock

MAX_CHANGES: Final = 1_000
"""Most changes. Beyond it the second is removed, so that the first is valid until the third."""

RECORD: Final = """
local last = redis.call('LINDEX', KEYS[1], -1)
if last and string.sub(last, string.find(last, ' ', 1, true) + 1) == ARGV[2] then
  return 0
end
redis.call('RPUSH', KEYS[1], (last and ARGV[1] or '0') .. ' ' .. ARGV[2])
if redis.call('LLEN', KEYS[1]) > tonumber(ARGV[3]) then
  redis.call('LREM', KEYS[1], 1, redis.call('LINDEX', KEYS[1], 1))
end
return 1
"""
"""Appends the present policies unless they equal the last entry. Atomic, because api processes share the list."""


class Interval(NamedTuple):
    """The time in which a status was recorded (µs since 1970). `until` None: until now."""

    since: int
    until: int | None


class Change(NamedTuple):
    """The policies from `at_us` on; 0 for the first change."""

    at_us: int
    recording: tuple[RecordingPolicy, ...]


class RecordingHistory(NamedTuple):
    """Every change, in order."""

    changes: Sequence[Change]

    def intervals(self, realm: str) -> dict[int, list[Interval]]:
        """The intervals in which each status was recorded in a realm, by its index in WRITTEN_STATUSES."""
        found: dict[int, list[Interval]] = {}
        ends = [change.at_us for change in self.changes[1:]]
        for change, until in zip(self.changes, [*ends, None], strict=True):
            for status in _statuses(change.recording, realm):
                intervals = found.setdefault(status, [])
                if intervals and intervals[-1].until == change.at_us:
                    intervals[-1] = intervals[-1]._replace(until=until)
                else:
                    intervals.append(Interval(change.at_us, until))
        total = found.get(0)
        if total and total[-1].until is None:
            found[0] = [Interval(0, None)]
        return found


def _statuses(recording: Sequence[RecordingPolicy], realm: str) -> list[int]:
    """The statuses that LinOTP records in a realm: policies that name it win over those for all realms."""
    covering = [policy for policy in recording if policy.covers(realm)]
    best = [policy for policy in covering if policy.realms is not None] or covering
    return sorted({WRITTEN_STATUSES.index(written) for policy in best for written in policy.statuses})


RECORDED_FROM_START: Final = RecordingHistory((Change(0, (RECORD_EVERYTHING,)),))


def recorded_as(asked: Collection[str]) -> RecordingHistory:
    """Every status from the start, each in the spelling in which it is asked for."""
    turned = {
        status: written
        for written, status in zip(WRITTEN_STATUSES, map(canonical_status, WRITTEN_STATUSES), strict=True)
        if written in asked and status not in asked
    }
    return RecordingHistory(
        (Change(0, (RecordingPolicy(None, tuple(turned.get(each, each) for each in COUNTED_STATUSES)),)),)
    )


class PolicyFile:
    """The policies of a file, read again after a change. An invalid file is logged, and the last valid one stays.

    Without a path every status is recorded and everybody may read. The constructor raises ValueError.
    """

    def __init__(self, path: Path | None, client: Client, prefix: str, clock: Clock) -> None:
        self._client = client
        self._key = recordings(prefix)
        self._clock = clock.now
        self._unrecorded = False
        self.policies = Policies()
        self._file = None
        if path is not None:
            self._file = WatchedFile(path, "REPORTING_POLICY_FILE", partial(self._load, path), clock)

    async def history(self, asked: Collection[str] = ()) -> RecordingHistory:
        """All changes of the recording policies. Raises one of UNREACHABLE.

        Without a file, no policy spells the statuses: they have the spelling of `asked`.
        """
        if self._file is None:
            return recorded_as(asked) if asked else RECORDED_FROM_START
        await self.refresh()
        (changes,) = await self._client.run([("LRANGE", self._key, 0, -1)])
        if not changes:
            # The store lost the list, or was emptied.
            self._unrecorded = True
            await self._record()
            (changes,) = await self._client.run([("LRANGE", self._key, 0, -1)])
        return RecordingHistory([_unpack(change) for change in changes])

    async def refresh(self) -> None:
        """Reload the file if it has changed, and record the change. Raises one of UNREACHABLE."""
        if self._file is not None:
            self._file.reload_if_changed()
        if self._unrecorded:
            await self._record()

    async def watch_lifespan(self, _: web.Application) -> AsyncIterator[None]:
        """Check the file without requests too, because a change is recorded with its time."""
        watch = None if self._file is None else asyncio.create_task(self._watch())
        yield
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch(self) -> None:
        while True:
            try:
                await self.refresh()
            except UNREACHABLE:
                REDIS_ERRORS.labels("ledger").inc()
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def _record(self) -> None:
        packed = _pack(self.policies.recording)
        at_us = int(self._clock() * 1_000_000)
        await self._client.run([("EVAL", RECORD, 1, self._key, at_us, packed, MAX_CHANGES)])
        self._unrecorded = False

    def _load(self, path: Path, content: bytes) -> None:
        self.policies = decode(path, content)
        self._unrecorded = True


def _pack(recording: Sequence[RecordingPolicy]) -> bytes:
    return msgspec.json.encode(
        [(None if each.realms is None else sorted(each.realms), each.statuses) for each in recording]
    )


def _unpack(change: bytes) -> Change:
    at_us, _, packed = change.partition(b" ")
    listed = msgspec.json.decode(packed, type=list[tuple[list[str] | None, tuple[str, ...]]])
    recording = (
        RecordingPolicy(None if realms is None else frozenset(realms), statuses) for realms, statuses in listed
    )
    return Change(int(at_us), tuple(recording))
