"""A hostile tenant floods a deployment in every way at once: another's figures, errors and latency stay in bounds.

`docs/threat-model.md` states the bounds.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from api.auth.sessions import MAX_PER_SUBJECT
from schemas.ledger import fields
from tests.api.sources import listed
from tests.conftest import wait_until_async
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.hostile_tenant import FLOODS, Attack, attack_in_process
from tests.integration.sites import Broker, Site
from tests.qualification.bench import wide_ledger

VICTIM: Final = "acme"
HOSTILE: Final = "realm-0"
"""The realm of the wide ledger, so that its questions are wide."""
SCOPES: Final = ["stats:read", "events:write", "reporting", "jans_stat"]
WIDE: Final = wide_ledger.Size(user_days=1, users_a_day=100, clients=40, client_days=400, realms=1, rows=30_000)

MAX_LABELS: Final = 10
MAX_IDS: Final = 4_000
CLIENTS: Final = fields.REALM_CLIENTS + MAX_LABELS // 2
REASONS: Final = fields.REALM_WORDS + fields.WORD_POOL // 4
"""What the shares leave to the victim, whichever of the two comes first."""
SENDS: Final = 40
"""Bodies of the victim before the attack."""
LOGINS: Final = 5
MAX_STREAMS: Final = 20
ATTACK_S: Final = 8.0

LATENCY_FACTOR: Final = 10
LATENCY_S: Final = 3.0
"""The victim's p99 during the attack is at most its idle median times the factor, and this many seconds."""
MAX_WAITED: Final = 0.05
"""The part of its requests that may be answered 503 with `Retry-After`."""


class Victim:
    """Sends, asks, and keeps a session and a stream open. Only a question that must wait may get an error, 503."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = session
        self._start = datetime.now(UTC)
        self._body: list[dict[str, Any]] = []
        self._admin = ""
        self.sent = 0
        """Logins, each with an id of its own."""
        self.seconds: list[float] = []
        """The duration of each request."""
        self.waited = 0
        """Questions that were refused with 503 and `Retry-After`."""
        self.live: list[dict[str, Any]] = []
        """Figures that the stream sent."""

    @property
    def today(self) -> str:
        return f"{self._start:%Y-%m-%d}"

    async def ask(self, path: str, **headers: str) -> Any:
        """The answer; a question that found no place is asked again, when the api allows it."""
        while True:
            reply, answer = await self._request("GET", path, **headers)
            if reply.status != 503:
                assert reply.status == 200, (path, reply.status, answer)
                return answer
            self.waited += 1
            await asyncio.sleep(float(reply.headers["Retry-After"]))

    async def send(self) -> None:
        """Events with new ids, and those of the last body again, as a sender does that retries."""
        new = [event for number in range(self.sent, self.sent + LOGINS) for event in self._events(number)]
        reply, answer = await self._request("POST", "/v1/events", self._body + new)
        assert (reply.status, answer["rejected"]) == (202, []), answer
        self._body = new
        self.sent += LOGINS

    async def open_session(self) -> None:
        async with self._http.get(self._url + "/admin/getsession", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            self._admin = answer.cookies["admin_session"].value

    async def ask_by_session(self) -> None:
        path = f"/reporting/maximum?session={self._admin}"
        answer = await self.ask(path, Authorization="", Cookie=f"admin_session={self._admin}")
        assert answer["result"]["status"] is True

    async def ask_dashboard(self) -> None:
        """The answer to a question of the dashboard. It leaves nothing out, even while events wait to be counted."""
        for group_by in ("client_id", "reason"):
            assert (await self.logins(group_by))["complete"] is True, group_by
        assert (await self.users())["complete"] is True
        assert (await self.tokens())["complete"] is True
        await self.ask("/v1/overview")
        await self.ask_by_session()

    async def logins(self, group_by: str, **headers: str) -> Any:
        return await self.ask(f"/v1/logins?from={self.today}&to={self.today}&group_by={group_by}", **headers)

    async def users(self) -> Any:
        return await self.ask(f"/v1/active-users?from={self.today}&to={self.today}")

    async def tokens(self) -> Any:
        return await self.ask(f"/v1/tokens?from={self.today}&to={self.today}&group_by=client_id")

    @asynccontextmanager
    async def following(self) -> AsyncIterator[asyncio.Task[None]]:
        """The stream, which is read until the block ends."""

        async def follow() -> None:
            async with self._http.get(self._url + "/v1/live", headers=self._headers) as answer:
                assert answer.status == 200, await answer.text()
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        self.live.append(json.loads(line.removeprefix(b"data: ")))

        task = asyncio.create_task(follow())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    def by_client(self) -> Counter[str]:
        """Its logins by client: as many succeeded, failed and gave a token."""
        return Counter(map(self._client, range(self.sent)))

    def by_reason(self) -> Counter[str]:
        return Counter(map(self._reason, range(self.sent)))

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {VICTIM}"}

    @staticmethod
    def _client(number: int) -> str:
        return f"{VICTIM} {number % CLIENTS}"

    @staticmethod
    def _reason(number: int) -> str:
        return f"{VICTIM} {number % REASONS}"

    def _events(self, number: int) -> Iterator[dict[str, Any]]:
        """A login, a failed one, and the token."""
        common = {"time": self._start.isoformat(), "realm": VICTIM, "client_id": self._client(number)}
        login = common | {"type": "login", "user_id": f"user {number}"}
        # The success first: it makes the client known.
        yield login | {"id": f"victim {number}"}
        yield login | {"id": f"victim {number} failed", "success": False, "reason": self._reason(number)}
        token = {"type": "token", "grant_type": "password", "tokens": ["access_token"]}
        yield common | token | {"id": f"victim {number} token"}

    async def _request(
        self, method: str, path: str, body: Any = None, **more: str
    ) -> tuple[aiohttp.ClientResponse, Any]:
        headers = {name: text for name, text in (self._headers | more).items() if text}
        began = time.perf_counter()
        async with self._http.request(method, self._url + path, json=body, headers=headers) as reply:
            text = await reply.text()
            self.seconds.append(time.perf_counter() - began)
            return reply, json.loads(text)


@pytest.fixture
def site(make_site: MakeSite, embedded: Broker) -> Site:
    kept: dict[str, Any] = {"users_by": "realm,client", "counts_by": "realm,client"}
    site = make_site(embedded, 1, max_labels=str(MAX_LABELS), dedupe_max_ids=str(MAX_IDS), **kept)
    wide_ledger.fill(site.raw, WIDE, datetime.now(UTC).date())
    return site


@pytest.fixture
def api(site: Site, tmp_path: Path) -> Iterator[ApiProcess]:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([listed(realm, scopes=SCOPES, realms=[realm]) for realm in (VICTIM, HOSTILE)]))
    settings = {name: text for name, text in site.workers.settings.items() if name != "user_hash_key"}
    access = {"auth": "static", "auth_tokens_file": str(tokens)}
    quick = {"cache_ttl_s": "0", "live_interval_s": "0.5", "live_listeners_per_subject": str(MAX_STREAMS)}
    with ApiProcess(**settings | access | quick, ingest="on", ingest_max_age_days="35") as api:
        yield api


@pytest.fixture
def hostile() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as hostile:
        # Started before the attack: a slow start must not shorten it.
        assert hostile.submit(abs, -1).result(60) == 1
        yield hostile


async def test_a_hostile_tenant_changes_nothing_for_another(
    site: Site, api: ApiProcess, hostile: ProcessPoolExecutor
) -> None:
    worker = site.workers.start().wait_until_joined()
    url = f"http://{api.address}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:
        victim = Victim(url, session)
        await victim.open_session()
        async with victim.following() as stream:
            await wait_until_async(lambda: victim.live, 30, "the stream begins")
            for _ in range(SENDS):
                await victim.send()
                await victim.ask_by_session()
            await victim.ask_dashboard()
            idle_s = statistics.median(victim.seconds)
            victim.seconds.clear()

            attack = Attack(url, HOSTILE, HOSTILE, VICTIM, ATTACK_S)
            attacking = asyncio.wrap_future(hostile.submit(attack_in_process, attack))
            asked_at = 0.0
            while not attacking.done():
                await victim.send()
                if time.monotonic() > asked_at + 1:
                    asked_at = time.monotonic()
                    await victim.ask_dashboard()
                await asyncio.wait([attacking], timeout=0.1)
            answers = await attacking
            p99_s = statistics.quantiles(victim.seconds, n=100, method="inclusive")[98]
            asked, waited = len(victim.seconds), victim.waited
            await wait_until_async(
                lambda: (victim.live[-1]["logins"], victim.live[-1]["tokens"]) == (victim.sent, victim.sent),
                60,
                f"the stream sends all {victim.sent} logins",
            )
            assert not stream.done()
            await victim.ask_by_session()
        by_client, by_reason = await victim.logins("client_id"), await victim.logins("reason")
        users, tokens = await victim.users(), await victim.tokens()
        labels = await victim.ask("/v1/labels")
        flooded = await victim.logins("client_id", Authorization=f"Bearer {HOSTILE}")
    for outcome in ("succeeded", "failed"):
        assert {item["client_id"]: item[outcome] for item in by_client["items"]} == victim.by_client(), outcome
    assert {item["reason"]: item["failed"] for item in by_reason["items"]} == victim.by_reason()
    assert [(row["value"], row["exact"]) for row in users["items"]] == [(victim.sent, True)]
    assert {item["client_id"]: item["tokens"] for item in tokens["items"]} == victim.by_client()
    assert [each["complete"] for each in (by_client, by_reason, users, tokens, labels)] == [True] * 5
    assert worker.running
    assert waited <= MAX_WAITED * asked
    assert p99_s <= LATENCY_FACTOR * idle_s + LATENCY_S, f"{asked} requests"

    assert {answer.split()[0] for answer in answers} == {flood.__name__ for flood in FLOODS}
    assert flooded["complete"] is False, "more names than the hostile tenant's share"
    assert answers["streams 200"] == MAX_STREAMS
    assert answers["sessions 200"] > MAX_PER_SUBJECT
    assert answers.keys() >= {"stalled_bodies 429", "wrong_tokens 401", "times 202"}
