"""The regions that answer together: the own one, its peers, and which of them a bearer sees."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import takewhile
from typing import Final

from aiohttp import web

from api.auth.principal import Principal
from api.http.errors import BadRequestError
from api.ledger.client import Client
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.temporary import Pipeline, TemporarySketch, count
from api.metrics import ACCESS_REFUSALS
from api.regions.exporter import Exporter
from api.regions.identity import Refused, refusal
from api.regions.kept import KeptExports
from api.regions.memory import UnionMemory
from api.regions.peer import Peer
from api.regions.peers import Peers
from api.regions.reader import Budget, PeerReader, plausible
from api.regions.regional import RegionalStatistics
from api.regions.wire import Identity, UnionExport
from api.settings.peers_file import ALL
from api.settings.settings import ApiSettings
from schemas.ledger.keys import temporary
from schemas.time.clock import Clock

EVERY: Final = (ALL,)


class Regions:
    """`own` is empty if this deployment has no regions."""

    def __init__(self, settings: ApiSettings, statistics: LedgerStatistics, ledger: Client, clock: Clock) -> None:
        self.own = settings.region
        self.users = settings.region_users or "distinct"
        self.for_products = settings.region_products == "all"
        self.exporter = Exporter(statistics, settings, clock)
        self._statistics = statistics
        self._ledger = ledger
        self._prefix = settings.key_prefix
        self._timeout_s = settings.region_timeout_s
        self._clock = clock
        self._kept = KeptExports(settings.cache_grace_s, clock)
        self._memory = UnionMemory()
        self._ledgers: dict[str, str] = {}
        """Ledger ids by peer."""
        self._peers = Peers(settings.peers_file, settings.region, self._check, self._forget, clock)

    @property
    def peers(self) -> Mapping[str, Peer]:
        """By name, in the order of PEERS_FILE, as it is now."""
        return self._peers.by_name

    async def lifespan(self, _: web.Application) -> AsyncIterator[None]:
        await self._peers.start()
        yield
        await self._peers.close()
        await self.exporter.close()

    def visible(self, principal: Principal) -> tuple[str, ...]:
        """The regions that the bearer sees, the own one first."""
        return tuple(name for name in (self.own, *self.peers) if principal.sees_region(name, self.own))

    def select(self, asked: Sequence[str], principal: Principal) -> tuple[str, ...]:
        """The regions of a question, in the order of `visible`. Raises BadRequestError."""
        if not self.own:
            raise BadRequestError("This deployment has no regions: REGION is not set.", members={"parameter": "region"})
        visible = self.visible(principal)
        if tuple(asked) == EVERY:
            return visible
        for name in asked:
            if name in visible:
                continue
            if name in self.peers:
                ACCESS_REFUSALS.labels("regions").inc()
            # One answer for both, as unknown and hidden realms have: another status would show what exists.
            raise _unseen(name, f" It sees {', '.join(visible)}.")
        return tuple(name for name in visible if name in asked)

    def budget(self) -> Budget:
        return Budget(self._clock.monotonic, self._timeout_s)

    def over(self, names: Sequence[str], budget: Budget | None = None) -> RegionalStatistics:
        """Statistics over these regions, for one question. Raises BadRequestError for one that was just removed."""
        budget = budget or self.budget()
        for name in names:
            if name not in (self.own, *self.peers):
                raise _unseen(name)
        readers = [PeerReader(self.peers[name], self._kept, budget, self._trust) for name in names if name != self.own]
        return RegionalStatistics(
            self._statistics,
            self.own,
            self._memory,
            with_own=self.own in names,
            peers=readers,
            shared=self.users == "shared",
        )

    async def _check(self, name: str, identity: Identity) -> Refused | None:
        own = await self.exporter.identity()
        # The first of two peers with one ledger stays: otherwise a wrong line would take both away.
        earlier = takewhile(lambda other: other != name, self.peers)
        before = [(other, self._ledgers[other]) for other in earlier if other in self._ledgers]
        found = refusal(name, identity, own, before)
        if identity.ledger and name in self.peers:
            self._ledgers[name] = identity.ledger
        if found is not None:
            self._kept.forget(name)
        return found

    def _forget(self, name: str) -> None:
        self._ledgers.pop(name, None)
        self._kept.forget(name)

    async def _trust(self, unions: Sequence[UnionExport]) -> bool:
        """Whether the sketches, as the own store estimates them, agree with the numbers given with them."""
        pipeline = Pipeline(self._ledger)
        counted: list[list[int]] = []
        for union in unions:
            question = secrets.token_hex(8)
            counted.append([])
            for part, sketch in enumerate(union.sketches):
                united = TemporarySketch(temporary(self._prefix, question, str(part)))
                united.add(pipeline, sketches=[sketch])
                counted[-1].append(count(pipeline, [], [united.key]))
        replies = await pipeline.send()
        return all(
            plausible(sum(replies[number] for number in numbers), union.united, len(numbers))
            for union, numbers in zip(unions, counted, strict=True)
        )


def _unseen(name: str, others: str = "") -> BadRequestError:
    text = f"`region`: this token sees no region {name[:32]}.{others}"
    return BadRequestError(text, members={"parameter": "region"})
