"""PEERS_FILE while the api runs: peers that come, go and change, and files that are not valid."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

import pytest

from api.metrics import REGISTRY
from deploy.demo.servers import Valkey
from tests.api.regions.conftest import Region, Start
from tests.api.worker import count, login
from tests.conftest import wait_until_async

LOGINS = "/v1/logins?from=2026-10-01&to=2026-10-31&granularity=month"
STAYS = "file not usable, last valid content stays"


class Three(NamedTuple):
    """The api of eu, whose file of peers changes, and those of us and ap."""

    eu: Region
    us: Region
    ap: Region
    folder: Path

    def entry(self, name: str, **more: str) -> dict[str, str]:
        url = getattr(self, name).between.url
        return {"name": name, "url": url, "token_file": str(self.folder / "peer.token")} | more

    def write(self, *entries: dict[str, str]) -> None:
        self.put(json.dumps(entries))

    def put(self, text: str) -> None:
        (self.folder / "eu.peers.json").write_text(text)

    async def listed(self) -> list[str]:
        return [item["region"] for item in (await self.eu.ask("/v1/regions"))["items"]]

    async def until_listed(self, *names: str) -> None:
        await wait_until_async(lambda: ["eu", *self.eu.services.regions.peers] == [*names], 60)
        assert await self.listed() == [*names]

    async def total(self, query: str = "&region=all") -> int:
        (item,) = (await self.eu.whole(LOGINS + query))["items"]
        return int(item["succeeded"])


@pytest.fixture
async def three(start: Start, stores: list[Valkey], tmp_path: Path) -> Three:
    for number, store in enumerate(stores):
        users = range(10 ** (number + 1))
        await count(store.url, [login("2026-10-01T10:00:00Z", f"user-{user}", realm="acme") for user in users])
    regions = await start(("eu", "us", "ap"), region_users="distinct")
    return Three(regions["eu"], regions["us"], regions["ap"], tmp_path)


async def test_a_removed_peer_is_asked_nothing_more_and_comes_back(three: Three) -> None:
    assert await three.total() == 1110
    kept = three.eu.services.regions._kept.bytes
    three.write(three.entry("us"))
    await three.until_listed("eu", "us")
    assert three.eu.services.regions._kept.bytes < kept, "its exports do not stay"
    asked = len(three.ap.between.bodies)
    assert await three.total() == 110
    assert (await three.eu.api.get(f"{LOGINS}&region=ap", "all")).status == 400
    assert len(three.ap.between.bodies) == asked
    assert REGISTRY.get_sample_value("authtally_api_peer_up", {"peer": "ap"}) is None, "an alert would never end"
    three.write(three.entry("ap"), three.entry("us"))
    await three.until_listed("eu", "ap", "us")
    await three.eu.until("ap", "current")
    assert await three.total() == 1110


async def test_the_last_peer_is_removed_by_an_empty_list(three: Three) -> None:
    three.write()
    await three.until_listed("eu")
    assert await three.total() == 10


async def test_an_address_that_changes(three: Three) -> None:
    assert await three.total("&region=us") == 100
    three.write(three.entry("us", url="http://127.0.0.1:1"), three.entry("ap"))
    await three.eu.until("us", "unreachable")
    answer = await three.eu.ask(f"{LOGINS}&region=us")
    assert answer["regions"][0]["state"] == "missing", "what the other address exported does not stand in"
    three.write(three.entry("us", url=three.ap.between.url), three.entry("ap"))
    assert (await three.eu.until("us", "refused"))["refusal"] == "name"
    three.write(three.entry("us"), three.entry("ap"))
    await three.eu.until("us", "current")
    assert await three.total("&region=us") == 100


async def test_a_token_file_that_changes(three: Three) -> None:
    (three.folder / "other.token").write_text("own\n")
    three.write(three.entry("us", token_file=str(three.folder / "other.token")), three.entry("ap"))
    assert (await three.eu.until("us", "unreachable"))["error"] == "status_403"
    assert (await three.eu.until("ap", "current"))["state"] == "current", "another peer is not touched"
    three.write(three.entry("us"), three.entry("ap"))
    await three.eu.until("us", "current")
    assert await three.total() == 1110


async def test_peers_whose_entry_is_the_same_keep_their_state(three: Three) -> None:
    peers = three.eu.services.regions.peers
    us = peers["us"]
    three.write(three.entry("ap"), three.entry("us"))
    await three.until_listed("eu", "ap", "us")
    assert three.eu.services.regions.peers["us"] is us


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[{]", "is not a list of peers"),
        ('[{"name": "us"}]', "is not a list of peers"),
        ('[{"name": "eu", "url": "http://127.0.0.1:1", "token_file": "TOKEN"}]', "the name of AUTHTALLY_REGION, eu"),
        ('[{"name": "us", "url": "ftp://127.0.0.1", "token_file": "TOKEN"}]', "url must be http:// or https://"),
    ],
)
async def test_an_invalid_file_is_logged_and_the_last_valid_one_stays(
    three: Three, capsys: pytest.CaptureFixture[str], text: str, fault: str
) -> None:
    three.put(text.replace("TOKEN", str(three.folder / "peer.token")))
    out: list[str] = []

    def logged() -> bool:
        out.append(capsys.readouterr().out)
        return STAYS in "".join(out)

    await wait_until_async(logged, 60)
    assert fault in "".join(out)
    assert "AUTHTALLY_PEERS_FILE" in "".join(out)
    assert await three.listed() == ["eu", "us", "ap"]
    assert await three.total() == 1110
    three.write(three.entry("us"))
    await three.until_listed("eu", "us")


async def test_a_token_file_that_comes_after_its_entry(three: Three, capsys: pytest.CaptureFixture[str]) -> None:
    """The file of peers does not change again: it is tried until it is valid, and logged once."""
    late = three.folder / "late.token"
    three.write(three.entry("ap", token_file=str(late)))
    out: list[str] = []

    def logged() -> bool:
        out.append(capsys.readouterr().out)
        return f"{late} cannot be read" in "".join(out)

    await wait_until_async(logged, 60)
    assert await three.listed() == ["eu", "us", "ap"]
    late.write_text("peer\n")
    await three.until_listed("eu", "ap")
    await three.eu.until("ap", "current")
    out.append(capsys.readouterr().out)
    assert "".join(out).count(STAYS) == 1


async def test_questions_that_are_on_their_way_are_answered(three: Three) -> None:
    """While peers come and go no question meets a defect. On a busy machine one can miss its deadline (503)."""
    us, ap = three.entry("us"), three.entry("ap")
    for entries, names in (([us], ("us",)), ([us, ap], ("us", "ap")), ([], ()), ([ap], ("ap",))):
        three.ap.between.delay_s = three.us.between.delay_s = 0.2
        three.write(*entries)
        seen: set[str] = set()
        while tuple(three.eu.services.regions.peers) != names:
            paths = [f"{LOGINS}&region=all", f"{LOGINS}&group_by=region", "/v1/regions", "/v1/lifecycle?region=all"]
            answers = await asyncio.gather(*(three.eu.api.get(path, "all") for path in paths))
            assert {answer.status for answer in answers} <= {200, 400, 503}, [answer.body for answer in answers]
            seen |= {answer.json["detail"] for answer in answers if answer.status == 400}
        assert all("this token sees no region" in detail for detail in seen)
        three.ap.between.delay_s = three.us.between.delay_s = 0
        assert await three.total() == 10 + sum({"us": 100, "ap": 1000}[name] for name in names)
