"""A tenant that floods a deployment in every way at the same time, from a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import aiohttp
import yarl

SESSIONS: Final = 2_000
FLOODED_EVENTS: Final = 20_000
EVENTS_PER_BODY: Final = 500
STREAMS: Final = 100
STALLED_BYTES: Final = 1_000_000
OLDEST: Final = timedelta(days=399)
SENDS: Final = "/v1/events"


class Attack(NamedTuple):
    url: str
    token: str
    realm: str
    victim: str
    """The realm of the other tenant."""
    seconds: float


Flood = Callable[["Attacker"], Awaitable[None]]


class Attacker:
    """Counts the answers by flood and status."""

    def __init__(self, attack: Attack, session: aiohttp.ClientSession) -> None:
        self.attack = attack
        self.answers: Counter[str] = Counter()
        self._session = session
        self._number = itertools.count(1)
        self._ends_at = time.monotonic() + attack.seconds

    def numbers(self) -> Iterator[int]:
        """Numbers that no other flood gets, until the attack ends."""
        while time.monotonic() < self._ends_at:
            yield next(self._number)

    async def get(self, flood: str, path: str, token: str | None = None) -> None:
        await self._ask(flood, "GET", path, token or self.attack.token)

    async def send(self, flood: str, events: Sequence[dict[str, Any]]) -> None:
        await self._ask(flood, "POST", SENDS, self.attack.token, json.dumps(events).encode())

    async def stall(self) -> None:
        """Most of a body, and then nothing."""

        async def pieces() -> AsyncIterator[bytes]:
            yield b"[" + b" " * (STALLED_BYTES - 2)
            await self._end()
            yield b"]"

        await self._ask("stalled_bodies", "POST", SENDS, self.attack.token, pieces())

    async def listen(self) -> None:
        url, headers, lasting = (
            self.attack.url + "/v1/live",
            self._headers(self.attack.token),
            aiohttp.ClientTimeout(None),
        )
        async with self._session.get(url, headers=headers, timeout=lasting) as answer:
            self.answers[f"streams {answer.status}"] += 1
            if answer.status == 200:
                await self._end()

    def event(self, time: datetime | None = None, **more: Any) -> dict[str, Any]:
        time = time or datetime.now(UTC)
        return {"type": "login", "time": time.isoformat(), "user_id": "bot", "realm": self.attack.realm} | more

    async def _ask(self, flood: str, method: str, path: str, token: str, data: Any = None) -> None:
        url = yarl.URL(self.attack.url + path, encoded=True)
        try:
            async with self._session.request(method, url, data=data, headers=self._headers(token)) as answer:
                await answer.read()
                self.answers[f"{flood} {answer.status}"] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            # The api closes connections whose body it does not read to its end.
            self.answers[f"{flood} {type(error).__name__}"] += 1
            await asyncio.sleep(0)

    async def _end(self) -> None:
        await asyncio.sleep(max(0, self._ends_at - time.monotonic()))

    @staticmethod
    def _headers(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


async def names(attacker: Attacker) -> None:
    """Made-up clients, reasons, nodes, ids and users; as many as the worker counts in a few seconds."""
    for number in attacker.numbers():
        if attacker.answers["names 202"] * EVENTS_PER_BODY >= FLOODED_EVENTS:
            return
        made_up = [f"{number}-{place}" for place in range(EVENTS_PER_BODY)]
        await attacker.send(
            "names",
            [attacker.event(user_id=name, client_id=name, node=name, id=name) for name in made_up[::2]]
            + [attacker.event(user_id=name, success=False, reason=name) for name in made_up[1::2]],
        )


async def times(attacker: Attacker) -> None:
    """Old, future and foreign events, and ids that the victim uses."""
    now = datetime.now(UTC)
    for number in attacker.numbers():
        await attacker.send(
            "times",
            [
                attacker.event(now - timedelta(days=300), id=f"old {number}"),
                attacker.event(now + timedelta(days=2), id=f"future {number}"),
                attacker.event(now + timedelta(hours=23), id=f"ahead {number}"),
                attacker.event(now - timedelta(days=30), id=f"late {number}"),
                attacker.event(id=f"foreign {number}", realm=attacker.attack.victim),
                attacker.event(id=f"victim {number}"),
            ],
        )


async def large_bodies(attacker: Attacker) -> None:
    for _ in attacker.numbers():
        await attacker.send("large_bodies", [{"x": "x" * 90} for _ in range(9_000)])


async def stalled_bodies(attacker: Attacker) -> None:
    for _ in attacker.numbers():
        await attacker.stall()


async def sessions(attacker: Attacker) -> None:
    for _ in attacker.numbers():
        if attacker.answers["sessions 200"] >= SESSIONS:
            return
        await attacker.get("sessions", "/admin/getsession")


async def streams(attacker: Attacker) -> None:
    await asyncio.gather(*(attacker.listen() for _ in range(STREAMS)))


async def wide_questions(attacker: Attacker) -> None:
    """Each asks for another answer, so that the cache does not help."""
    today = datetime.now(UTC).date()
    year = f"from={today - OLDEST}&to={today}"
    for number in attacker.numbers():
        await attacker.get("wide_questions", f"/v1/logins?{year}&group_by=client_id&limit={number}")


async def sorted_reports(attacker: Attacker) -> None:
    for number in attacker.numbers():
        await attacker.get("sorted_reports", f"/reporting/show?status=total&sortby=count&page={number}&pagesize=50")


async def wrong_tokens(attacker: Attacker) -> None:
    for number in attacker.numbers():
        await attacker.get("wrong_tokens", "/v1/overview", f"made-up-{number}")


FLOODS: Final[dict[Flood, int]] = {
    names: 4,
    times: 2,
    large_bodies: 2,
    stalled_bodies: 16,
    sessions: 20,
    streams: 1,
    wide_questions: 40,
    sorted_reports: 10,
    wrong_tokens: 6,
}
"""Each flood with the number of its callers."""


async def _attack(attack: Attack) -> Counter[str]:
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(2 * attack.seconds)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        attacker = Attacker(attack, session)
        await asyncio.gather(*(flood(attacker) for flood, callers in FLOODS.items() for _ in range(callers)))
        return attacker.answers


def attack_in_process(attack: Attack) -> Counter[str]:
    """The number of answers by flood and status."""
    return asyncio.run(_attack(attack))
