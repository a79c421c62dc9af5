"""Peers that are killed, slow, or lie: marked in the answer, and no question waits for one that is known to be dead."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from api.ledger.merged_store import DENSE_BYTES
from api.regions.peer import Peer
from api.settings.peers_file import PeerEntry
from deploy.demo.servers import Valkey
from schemas.ledger import keys
from schemas.time.clock import SYSTEM
from tests.api.regions.conftest import Between, Change, Region, Start, serve
from tests.api.worker import count, login
from tests.certificates import Authority
from tests.conftest import wait_until_async

PATH = "/v1/active-users?from=2026-10-01&to=2026-10-31&granularity=month&region=all"
COUNTS = "/v1/logins?from=2026-10-01&to=2026-10-31&granularity=month&region=all"

Document = dict[str, Any]


@pytest.fixture
async def two(start: Start, stores: list[Valkey]) -> tuple[Region, Region]:
    await fill(stores[:2])
    regions = await start()
    return regions["eu"], regions["us"]


async def fill(stores: list[Valkey]) -> None:
    for number, store in enumerate(stores):
        users = range(200 * number, 200 * number + 300)
        await count(store.url, [login("2026-10-01T10:00:00Z", f"user-{user}", realm="acme") for user in users])


async def test_a_killed_region_is_stood_in_for_and_comes_back(two: tuple[Region, Region]) -> None:
    eu, us = two
    whole = await eu.whole(PATH)
    us.between.cut = True
    answer = await eu.ask(PATH)
    assert answer["items"] == whole["items"], "its last export stands in"
    assert answer["complete"] is False
    share = answer["regions"][1]
    assert (share["region"], share["state"], share["reason"]) == ("us", "stand_in", "connection")
    assert 0 <= share["age_s"] < 600
    # It was never asked for logins, so nothing can stand in: the answer has the own figures, and says so.
    answer = await eu.ask(COUNTS)
    assert answer["items"][0]["succeeded"] == 300
    assert answer["regions"][1]["state"] == "missing"
    assert not answer["complete"]
    down = await eu.until("us", "unreachable")
    assert down["error"] == "connection"
    us.between.cut = False
    await eu.until("us", "current")
    answer = await eu.whole(COUNTS)
    assert answer["complete"]
    assert answer["items"][0]["succeeded"] == 600


async def test_a_stand_in_ends_with_the_grace_period(start: Start, stores: list[Valkey]) -> None:
    await fill(stores)
    regions = await start(of={"eu": {"cache_grace_s": 0}})
    eu, us = regions["eu"], regions["us"]
    await eu.whole(PATH)
    us.between.cut = True
    assert (await eu.ask(PATH))["regions"][1]["state"] == "missing"


async def test_a_dead_region_slows_no_question_but_the_first(start: Start, stores: list[Valkey]) -> None:
    await fill(stores)
    regions = await start(("eu", "us", "ap"), region_timeout_s=1.5)
    eu, us = regions["eu"], regions["us"]
    await eu.whole(PATH)
    us.between.delay_s = 30
    began = time.monotonic()
    answer = await eu.ask(PATH)
    first_s = time.monotonic() - began
    assert [share["state"] for share in answer["regions"]] == ["current", "stand_in", "current"]
    assert answer["regions"][1]["reason"] == "timeout"
    assert first_s < 1.8, "the deadline of a question"
    peer = eu.services.regions.peers["us"]
    # Further questions at the same time wait together, and then no longer.
    await asyncio.gather(*(eu.ask(f"{PATH}&limit={number}") for number in range(101, 105)))
    assert peer.circuit.is_open
    sent = len(us.between.bodies)
    answers = await asyncio.gather(*(eu.ask(f"{PATH}&limit={number}") for number in range(1, 21)))
    assert peer.circuit.is_open
    assert len(us.between.bodies) == sent
    for answer in answers:
        assert [share["state"] for share in answer["regions"]] == ["current", "stand_in", "current"]
    us.between.delay_s = 0
    await eu.until("us", "current")
    assert (await eu.whole(PATH))["complete"]


async def test_a_region_that_answers_probes_but_no_question_stays_open(two: tuple[Region, Region]) -> None:
    eu, us = two
    peer = eu.services.regions.peers["us"]
    await eu.whole(PATH)
    us.between.change = lambda document: None if "layout" in document else {"unions": "nonsense"}
    waits = []
    for _ in range(3):
        await wait_until_async(lambda: not peer.circuit.is_open, 60)
        assert (await eu.ask(PATH))["regions"][1]["reason"] == "invalid"
        waits.append(peer.circuit.wait_s)
    assert waits == sorted(waits)
    assert waits[-1] > 1


def in_unions(change: Callable[[Document], None]) -> Change:
    def changed(document: Document) -> None:
        for union in document.get("unions", []):
            if union["sketches"]:
                change(union)

    return changed


def sketches(*texts: bytes) -> Change:
    """Every sketch is replaced by the first text; the digest is a new one, so that they are read."""
    return in_unions(
        lambda union: union.update(
            sketches=[base64.b64encode(texts[0]).decode()] * len(union["sketches"]), version="0" * 32
        )
    )


DENSE = b"HYLL\0" + bytes(DENSE_BYTES - 5)
HIGH = b"HYLL\0" + bytes(11) + b"\xff" * (DENSE_BYTES - 16)
"""Registers of 63: no hash of 64 bits gives more than 51."""
FULL = b"HYLL\0" + bytes(11) + sum(51 << (6 * number) for number in range(16_384)).to_bytes(12_288, "little")
"""The highest registers that can be: PFCOUNT overflows."""
LIES: list[tuple[str, Change]] = [
    ("a sketch that is cut off", sketches(DENSE[:-1])),
    ("a sketch that is too long", sketches(DENSE + b"\0" * 4000)),
    ("opcodes beyond the registers", sketches(b"HYLL\1" + bytes(11) + b"\x7f\xff\x7f\xff")),
    ("an opcode that is cut off", sketches(b"HYLL\1" + bytes(11) + b"\x7f")),
    ("no sketch", sketches(b"a string")),
    ("impossible registers", sketches(HIGH)),
    ("registers that overflow the estimate", sketches(FULL)),
    ("no one in the sketches of many", sketches(DENSE)),
    ("a sketch too few", in_unions(lambda union: union.update(sketches=union["sketches"][1:]))),
    ("sketches without a version", in_unions(lambda union: union.update(version=""))),
    ("more users than sketches have", in_unions(lambda union: union.update(united=10**6, count=10**6))),
    ("more united than there are", in_unions(lambda union: union.update(united=union["count"] + 1))),
    ("a negative number", in_unions(lambda union: union.update(count=-1))),
    ("a number beyond JSON's integers", in_unions(lambda union: union.update(count=2**60))),
    ("a fraction", in_unions(lambda union: union.update(count=1.5))),
    ("an error that is none", in_unions(lambda union: union.update(standard_error=7))),
    ("a union more", lambda document: document.setdefault("unions", []).append({"count": 1, "standard_error": 0})),
    ("an unknown member", lambda document: document.update(members=["4711"])),
    ("counters that were not asked for", lambda document: document.update(counts={"2026-10": {"all": {"login": 1}}})),
    ("no object", lambda document: [document]),
]


@pytest.mark.parametrize(("why", "lie"), LIES, ids=[why for why, _ in LIES])
async def test_a_lie_is_refused_and_the_own_figures_stay(two: tuple[Region, Region], why: str, lie: Change) -> None:
    eu, us = two
    us.between.change = lambda document: lie(document) if "identity" in document else None
    answer = await eu.ask(PATH)
    assert answer["regions"][1] == {"region": "us", "state": "missing", "reason": "invalid"}, why
    assert answer["items"][0]["value"] == 300, why
    assert not answer["complete"]
    with redis.Redis.from_url(eu.store.url) as client:
        assert client.ping(), "the store is well"
        assert not client.keys("*temporary*")


STATUS_LIES: list[tuple[str, Callable[[Document], Any]]] = [
    ("a setting that is no number", lambda status: status["shards"][0]["meta"].update(retain_days="many")),
    ("a period that is none", lambda status: status["periods"].append("2026-99")),
    ("a huge number", lambda status: status["shards"][0]["progress"].update(consumed=2**70)),
    ("a topic too long", lambda status: status["shards"][0].update(topic="t" * 300)),
]


@pytest.mark.parametrize(("why", "lie"), STATUS_LIES, ids=[why for why, _ in STATUS_LIES])
async def test_a_false_status_is_refused(two: tuple[Region, Region], why: str, lie: Callable[[Document], Any]) -> None:
    eu, us = two

    def change(document: Document) -> None:
        if document.get("status"):
            lie(document["status"])

    us.between.change = change
    answer = await eu.ask(COUNTS)
    assert answer["regions"][1]["state"] == "missing", why
    assert answer["items"][0]["succeeded"] == 300


COUNTER_LIES: list[tuple[str, dict[str, Any]]] = [
    ("a counter with too many parts", {"login/web": 1}),
    ("no counter", {"users": 1}),
    ("a negative count", {"login": -5}),
    ("a word too long", {f"failed/{'r' * 300}": 1}),
]


@pytest.mark.parametrize(("why", "counters"), COUNTER_LIES, ids=[why for why, _ in COUNTER_LIES])
async def test_a_false_counter_is_refused(two: tuple[Region, Region], why: str, counters: dict[str, Any]) -> None:
    eu, us = two

    def change(document: Document) -> None:
        for of_period in document.get("counts", {}).values():
            for scope in of_period:
                of_period[scope] = counters

    us.between.change = change
    answer = await eu.ask(COUNTS)
    assert answer["regions"][1] == {"region": "us", "state": "missing", "reason": "invalid"}, why
    assert answer["items"][0]["succeeded"] == 300


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"raw": b"{"}, "invalid"),
        ({"raw": b"[" * 100_000}, "invalid"),
        ({"raw": b" " * (17 * 2**20)}, "too_large"),
        ({"status": 500}, "status_500"),
        ({"status": 302}, "status_302"),
    ],
)
async def test_other_answers(two: tuple[Region, Region], what: dict[str, Any], reason: str) -> None:
    eu, us = two
    for name, value in what.items():
        setattr(us.between, name, value)
    share = (await eu.ask(PATH))["regions"][1]
    assert (share["state"], share["reason"]) == ("missing", reason)
    assert (await eu.ask(PATH))["items"][0]["value"] == 300


def identity(change: Callable[[Document], Any]) -> Change:
    def changed(document: Document) -> None:
        change(document.get("identity", document))

    return changed


def setting(name: str, *values: str) -> Change:
    return identity(lambda found: found["settings"].update({name: [*values]}))


REFUSALS: list[tuple[str, Change, str]] = [
    ("time_zone", setting("timezone", "America/New_York"), "TIMEZONE is America/New_York there and UTC here"),
    ("user_scope", setting("user_scope", "realm"), "USER_SCOPE is realm there and global here"),
    ("accuracy", setting("sketches", "32,4"), "SKETCHES is 32,4 there and 16,4 here"),
    ("exact_up_to", setting("exact_up_to", "8192"), "EXACT_UP_TO is 8192 there and 4096 here"),
    ("hash_key", setting("hash_key", "0" * 32), "USER_HASH_KEY differs"),
    ("user_id_normalize", setting("user_id_normalize", "nfc"), "USER_ID_NORMALIZE is nfc there and off here"),
    ("region_users", identity(lambda found: found.update(region_users="distinct")), "REGION_USERS is distinct there"),
    ("name", identity(lambda found: found.update(region="ap")), "its REGION is ap, and PEERS_FILE calls it us"),
    ("layout", identity(lambda found: found.update(layout=2)), "layout 2, and this api reads 1"),
    ("no_ledger_id", identity(lambda found: found.update(ledger="")), "its ledger has no id"),
]


@pytest.mark.parametrize(("refusal", "change", "detail"), REFUSALS, ids=[row[0] for row in REFUSALS])
async def test_a_region_that_cannot_answer_together_is_refused_by_name(
    two: tuple[Region, Region], refusal: str, change: Change, detail: str
) -> None:
    eu, us = two
    await eu.whole(PATH)
    us.between.change = change
    share = (await eu.ask(PATH))["regions"][1]
    assert share == {"region": "us", "state": "missing", "reason": refusal}, "an earlier export does not stand in"
    state = await eu.until("us", "refused")
    assert state["refusal"] == refusal
    assert detail in state["detail"]
    assert (await eu.ask(PATH))["items"][0]["value"] == 300


async def test_a_clone_of_the_own_ledger_is_refused(start: Start, stores: list[Valkey]) -> None:
    await fill(stores)
    with redis.Redis.from_url(stores[0].url) as eu, redis.Redis.from_url(stores[1].url) as us:
        us.set(keys.ledger_id("authtally:"), eu.get(keys.ledger_id("authtally:")) or b"")
    regions = await start()
    state = await regions["eu"].until("us", "refused")
    assert state["refusal"] == "same_ledger"
    assert (await regions["us"].until("eu", "refused"))["refusal"] == "same_ledger"


async def test_one_ledger_behind_two_names_counts_once(start: Start, stores: list[Valkey]) -> None:
    await fill(stores)
    with redis.Redis.from_url(stores[1].url) as us, redis.Redis.from_url(stores[2].url) as ap:
        ap.set(keys.ledger_id("authtally:"), us.get(keys.ledger_id("authtally:")) or b"")
    eu = (await start(("eu", "us", "ap")))["eu"]
    state = await eu.until("ap", "refused")
    assert state["refusal"] == "repeated_ledger"
    assert "us" in state["detail"]
    answer = await eu.ask(COUNTS)
    assert answer["items"][0]["succeeded"] == 600


async def test_a_token_that_the_peer_does_not_know(two: tuple[Region, Region], tmp_path: Any) -> None:
    eu, _ = two
    (tmp_path / "peer.token").write_text("own\n")
    peer = eu.services.regions.peers["us"]

    async def reason() -> str:
        for _ in range(200):
            share = (await eu.ask(PATH))["regions"][1]
            if share["state"] != "current":
                return str(share["reason"])
            await asyncio.sleep(0.05)
        return ""

    assert await reason() == "status_403", "the file is read again within a second"
    (tmp_path / "peer.token").write_text("peer\n")
    await wait_until_async(lambda: not peer.state.error, 60)
    assert (await eu.whole(PATH))["complete"]


async def test_tls_by_the_named_authority_and_no_other(two: tuple[Region, Region], tmp_path: Path) -> None:
    eu, us = two
    authority, other = Authority(tmp_path, "peers"), Authority(tmp_path, "other")
    shown = authority.sign("us")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(shown.certificate, shown.key)
    regions = eu.services.regions
    async with AsyncExitStack() as stack:
        secured = await serve(stack, Between(us.between.target), tls)
        for ca, error in ((authority.file, ""), (other.file, "tls"), ("", "tls")):
            entry = PeerEntry("us", secured.url, str(tmp_path / "peer.token"), str(ca))
            peer = Peer(entry, regions._check, SYSTEM)
            stack.push_async_callback(peer.close)
            await peer.start()
            await wait_until_async(lambda peer=peer: peer.state.identity is not None or peer.state.error, 60)  # type: ignore[misc]
            assert peer.state.error == error, ca


async def test_different_settings_of_real_ledgers(start: Start, stores: list[Valkey]) -> None:
    """A question outside of what every region keeps is 400, with the region named."""
    events = [login("2026-10-01T10:00:00Z", f"user-{user}", realm="acme", client_id="web") for user in range(100)]
    await count(stores[0].url, events, users_by=("realm", "client"))
    await count(stores[1].url, events, retain_months=1)
    eu = (await start(of={"eu": {"users_by": ("realm", "client")}}))["eu"]
    path = "/v1/active-users?granularity=month&from=2026-10-01&to=2026-10-31"
    assert (await eu.ask(f"{path}&client_id=web"))["items"][0]["value"] == 100
    answer = await eu.api.get(f"{path}&client_id=web&region=all", "all")
    assert answer.status == 400
    assert answer.json["detail"] == (
        "Active users by client are not kept in region us: USERS_BY does not contain `client`."
    )
    assert answer.json["parameter"] == "client_id"
    old = path.replace("2026-10-", "2025-10-")
    assert (await eu.api.get(old, "all")).status == 200
    answer = await eu.api.get(f"{old}&region=all", "all")
    assert answer.status == 400
    assert "no longer kept in region us (RETAIN_MONTHS)" in answer.json["detail"]
    grouped = await eu.api.get(f"{path}&group_by=region,client_id", "all")
    assert grouped.status == 400
    assert "region us" in grouped.json["detail"]


async def test_imported_months_take_no_part(two: tuple[Region, Region]) -> None:
    eu, us = two
    with redis.Redis.from_url(us.store.url) as client:
        client.hset("authtally:imported", mapping={"2026-10/active": 7000, "2026-10/source": "old system"})
    with redis.Redis.from_url(eu.store.url) as client:
        client.hset("authtally:imported", mapping={"2026-10/active": 9000, "2026-10/source": "old system"})
    own = await eu.ask(PATH.replace("&region=all", ""))
    assert own["items"][0]["value"] == 9000
    assert (await eu.ask(PATH.replace("region=all", "region=eu")))["items"] == own["items"]
    # The status of a region is up to a second old.
    for _ in range(100):
        answer = await eu.whole(PATH)
        if answer["regions"][1].get("imported"):
            break
        await asyncio.sleep(0.05)
    assert [share.get("imported") for share in answer["regions"]] == [True, True]
    assert not answer["complete"]
    assert abs(answer["items"][0]["value"] - 500) <= 10


def test_the_lies_are_json() -> None:
    assert json.loads(json.dumps([why for why, _ in LIES]))
