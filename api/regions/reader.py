"""What one question reads of one peer: fresh exports, or else the last ones that are kept, and which of both it was."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from api.ledger.client import together
from api.ledger.lifecycle_unions import CohortRow, LifecycleRow
from api.metrics import PEER_STAND_INS
from api.regions import wire, wire_lifecycle
from api.regions.kept import KeptExports
from api.regions.peer import Peer, PeerUnavailableError
from api.regions.wire import (
    Counters,
    CountsRequest,
    Export,
    ExportRequest,
    RecordTimes,
    RollingRequest,
    UnionExport,
    UnionRequest,
)
from api.regions.wire_lifecycle import LifecycleExport, LifecycleRequest, RetentionExport, RetentionRequest
from api.regions.wire_parts import parts_of
from schemas.ledger import accuracy
from schemas.ledger.scopes import Scope

MAX_SKETCHES: Final = 256
"""Most sketches of one request: 4 MB in base64."""
MAX_COUNTED: Final = 2_000
"""Most periods and scopes whose counters one request reads."""
CONCURRENT: Final = 4
"""Most requests of one question to one peer at the same time."""
LARGEST_SHARE: Final = 0.6
"""The part of a question's time that one request can take."""
STATUS: Final = "status"
STATUS_AGE_S: Final = 1.0
"""Age up to which questions share a status."""
NO_USERS: Final = UnionExport(count=0, standard_error=0.0)

T = TypeVar("T")


class Trust(Protocol):
    async def __call__(self, unions: Sequence[UnionExport]) -> bool:
        """Whether the sketches estimate the numbers of users that are given with them."""


class Budget:
    """The time that one question waits for all its peers together."""

    def __init__(self, monotonic: Callable[[], float], seconds: float) -> None:
        self._monotonic = monotonic
        self._longest_s = LARGEST_SHARE * seconds
        self._ends_at = monotonic() + seconds

    @property
    def timeout_s(self) -> float:
        """The time for the next request; 0 at the end. A peer that has become slow leaves time for the others."""
        return max(0.0, min(self._longest_s, self._ends_at - self._monotonic()))


class RegionStatus(NamedTuple):
    """Status, periods and labels of a peer, as exported."""

    status: wire.Status
    labels: Mapping[str, Sequence[int]]


class PeerReader:
    """Reads of one question. Failures of the peer do not raise: `reason`, `age_s` and `is_missing` have them."""

    def __init__(self, peer: Peer, kept: KeptExports, budget: Budget, trust: Trust) -> None:
        self.name = peer.name
        self._peer = peer
        self._kept = kept
        self._budget = budget
        self._trust = trust
        self._places = asyncio.Semaphore(CONCURRENT)
        self._status: RegionStatus | None = None
        self._status_lock = asyncio.Lock()
        self._read_status = False
        self.reason = ""
        """Why figures are old or missing; empty if all are current."""
        self.age_s = 0.0
        """Age of the oldest stand-in."""
        self.is_missing = False
        """Whether figures are missing."""
        self.not_united = False
        """Whether users are a number only."""
        self.has_imported = False
        """Whether a month was imported there, which takes no part."""

    @property
    def state(self) -> Literal["current", "stand_in", "missing"]:
        return "missing" if self.is_missing else "stand_in" if self.reason else "current"

    def record_use(self) -> None:
        """Count the answer in the metrics, if this region is not current in it."""
        if self.state != "current":
            PEER_STAND_INS.labels(self.name, self.state).inc()

    async def status(self) -> RegionStatus | None:
        """The status, up to STATUS_AGE_S old; None if it is missing."""
        async with self._status_lock:
            if not self._read_status:
                kept = self._kept.get(self.name, STATUS, RegionStatus) if self._peer.is_available else None
                if kept is not None and kept.age_s < STATUS_AGE_S:
                    self._status = kept.value
                else:
                    request = ExportRequest(status=True, labels=True)
                    self._status = await self._one(STATUS, request, _status_of, RegionStatus)
                self._read_status = True
        return self._status

    async def unions(
        self, asked: Sequence[tuple[Sequence[str], Sequence[Scope]]], *, sketches: bool
    ) -> list[UnionExport]:
        """The users of each union of periods and scopes, zero where they are missing."""
        status = await self.status()
        held = set() if status is None else {*status.status.periods}
        requests: dict[str, UnionRequest] = {}
        names: list[str | None] = []
        for periods, scopes in asked:
            there = [period for period in periods if period in held]
            name = None
            if there and scopes:
                texts = _texts(scopes)
                name = _name("union", sketches, there, texts)
                requests.setdefault(name, UnionRequest(periods=there, scopes=texts, sketches=sketches))
            names.append(name)
        found = await self._unions(requests, {name: _parts(asked[names.index(name)]) for name in requests})
        return [NO_USERS if name is None else found.get(name, NO_USERS) for name in names]

    async def rolling(self, days: Sequence[str], length: int, scopes: Sequence[Scope]) -> list[UnionExport]:
        """The windows of `length` days, by number; zero where they are missing."""
        windows = len(days) - length + 1
        no_users = [NO_USERS] * windows
        if not scopes or await self.status() is None:
            return no_users
        request = RollingRequest(days=[*days], length=length, scopes=_texts(scopes))
        name = _name("rolling", length, request.days, request.scopes)
        found = await self._one(name, ExportRequest(rolling=request), lambda export: export.rolling, list[UnionExport])
        return no_users if found is None else found

    async def counts(self, periods: Sequence[str], scopes: Sequence[Scope]) -> list[Mapping[str, Counters]]:
        """The counters by period and scope, in pieces."""
        status = await self.status()
        held = [] if status is None else [period for period in periods if period in {*status.status.periods}]
        if not held or not scopes:
            return []
        texts = _texts(scopes)
        size = max(1, MAX_COUNTED // len(held))
        requests = [CountsRequest(periods=held, scopes=texts[at : at + size]) for at in range(0, len(texts), size)]
        kind = dict[str, dict[str, dict[str, int]]]
        found = await together(
            self._one(
                _name("counts", request.periods, request.scopes),
                ExportRequest(counts=request),
                lambda export: export.counts,
                kind,
            )
            for request in requests
        )
        return [each for each in found if each is not None]

    async def lifecycle(
        self, base: Sequence[str], periods: Sequence[Sequence[str]], scopes: Sequence[Scope]
    ) -> list[LifecycleRow] | None:
        """A row for each of `periods` but the first; None where they are missing."""
        request = LifecycleRequest(
            base=[*base], periods=[[*period_keys] for period_keys in periods], scopes=_texts(scopes)
        )
        name = _name("lifecycle", request.base, request.periods, request.scopes)
        asked, kind = ExportRequest(lifecycle=request), list[LifecycleExport]
        found = await self._one(name, asked, lambda export: export.lifecycle, kind)
        return None if found is None else [wire_lifecycle.read_row(row) for row in found]

    async def retention(
        self, base: Sequence[str] | None, periods: Sequence[Sequence[str]], scopes: Sequence[Scope], max_age: int
    ) -> list[CohortRow] | None:
        """A row for each of `periods`; None where they are missing."""
        before = None if base is None else [*base]
        request = RetentionRequest(
            base=before, periods=[[*period_keys] for period_keys in periods], scopes=_texts(scopes), max_age=max_age
        )
        name = _name("retention", before, request.periods, request.scopes, max_age)
        asked, kind = ExportRequest(retention=request), list[RetentionExport]
        found = await self._one(name, asked, lambda export: export.retention, kind)
        return None if found is None else [wire_lifecycle.read_cohort(row) for row in found]

    async def times(self, days: Sequence[str]) -> Mapping[str, RecordTimes]:
        """First and last record timestamp (ms) of the days."""
        request = ExportRequest(times=[*days])
        found = await self._one(_name("times", days), request, lambda export: export.times, dict[str, RecordTimes])
        return found or {}

    async def _unions(self, requests: Mapping[str, UnionRequest], parts: Mapping[str, int]) -> dict[str, UnionExport]:
        chunks: list[list[str]] = []
        size = 0
        for name, request in requests.items():
            weight = parts[name] if request.sketches else 1
            if not chunks or len(chunks[-1]) == wire.MAX_UNIONS or size + weight > MAX_SKETCHES:
                chunks.append([])
                size = 0
            chunks[-1].append(name)
            size += weight
        found: dict[str, UnionExport] = {}
        for some in await together(self._some_unions({name: requests[name] for name in chunk}) for chunk in chunks):
            found.update(some)
        return found

    async def _some_unions(self, requests: Mapping[str, UnionRequest]) -> dict[str, UnionExport]:
        kept = {name: self._kept.get(self.name, name, UnionExport) for name in requests}
        known = {
            name: kept_union.value
            for name, kept_union in kept.items()
            if kept_union is not None and kept_union.value.version
        }
        request = ExportRequest(
            unions=[
                msgspec.structs.replace(each, known=known[name].version) if name in known else each
                for name, each in requests.items()
            ]
        )
        export = await self._export(request)
        if export is not None:
            found = dict(zip(requests, export.unions, strict=True))
            new = [union for union in found.values() if union.sketches]
            if not new or await self._trust(new):
                for name, union in found.items():
                    if union.united and not union.sketches:
                        found[name] = union = msgspec.structs.replace(union, sketches=known[name].sketches)
                    self._kept.put(self.name, name, union)
                return found
            self._peer.record_lie()
            self.reason = "invalid"
        # Looked up again: a refusal has dropped what was kept.
        stand_ins = {name: self._stand_in(self._kept.get(self.name, name, UnionExport)) for name in requests}
        return {name: union for name, union in stand_ins.items() if union is not None}

    async def _one(self, name: str, request: ExportRequest, read: Callable[[Export], T], kind: Any) -> T | None:
        """One part of an export, or its stand-in."""
        export = await self._export(request)
        if export is not None:
            found = read(export)
            self._kept.put(self.name, name, found)
            return found
        stand_in: T | None = self._stand_in(self._kept.get(self.name, name, kind))
        return stand_in

    def _stand_in(self, kept: Any) -> Any:
        if kept is None:
            self.is_missing = True
            return None
        self.age_s = max(self.age_s, kept.age_s)
        return kept.value

    async def _export(self, request: ExportRequest) -> Export | None:
        """The answer; None if there is none, with the reason."""
        async with self._places:
            try:
                timeout_s = self._budget.timeout_s
                if timeout_s <= 0:
                    raise PeerUnavailableError("timeout")
                return await self._peer.export(request, timeout_s)
            except PeerUnavailableError as error:
                self.reason = error.reason
                return None


def plausible(estimate: int, users: int, parts: int) -> bool:
    """Whether sketches with this estimate can be of so many users: within six standard errors, and at least 32."""
    return abs(estimate - users) <= max(32.0, 6 * accuracy.SKETCH_ERROR / math.sqrt(parts) * users)


def _status_of(export: Export) -> RegionStatus:
    assert export.status is not None
    return RegionStatus(export.status, export.labels)


def _texts(scopes: Sequence[Scope]) -> list[str]:
    return [scope.text for scope in scopes]


def _parts(union: tuple[Sequence[str], Sequence[Scope]]) -> int:
    return parts_of(*union)


def _name(*parts: object) -> str:
    """A name for what is kept: a digest, since a union can have thousands of scopes."""
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=16).hexdigest()
