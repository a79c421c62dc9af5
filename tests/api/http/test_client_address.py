"""The caller's address behind trusted proxies: never a value that the caller chose, and never an error."""

from __future__ import annotations

import random
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from pydantic import ValidationError

from api.http.client_address import MAX_HOPS, TrustedProxies
from api.settings.settings import ApiSettings
from tests.api.conftest import Api, Serve
from tests.api.sources import by_file, listed

PROXIES: Final = tuple(map(ip_network, ("10.0.0.0/8", "127.0.0.1/32", "2001:db8:1::/48")))


class Case(NamedTuple):
    peer: str | None
    forwarded: list[str]
    expected: str | None
    why: str


CASES: Final = [
    Case("192.0.2.1", ["198.51.100.7"], "192.0.2.1", "a peer that is no proxy chose the header itself"),
    Case("10.0.0.1", [], "10.0.0.1", "a proxy that sends no header, or a request of its own"),
    Case("10.0.0.1", ["198.51.100.7"], "198.51.100.7", "one proxy"),
    Case("10.0.0.1", ["1.1.1.1, 198.51.100.7"], "198.51.100.7", "the caller wrote the left one"),
    Case("10.0.0.1", ["1.1.1.1, 198.51.100.7, 10.0.0.2"], "198.51.100.7", "two proxies"),
    Case("10.0.0.1", ["10.0.0.9, 198.51.100.7"], "198.51.100.7", "the caller names a proxy"),
    Case("10.0.0.1", ["1.1.1.1", "198.51.100.7"], "198.51.100.7", "two header lines are one list"),
    Case("10.0.0.1", ["198.51.100.7", "10.0.0.2"], "198.51.100.7", "a proxy that adds a line of its own"),
    Case("10.0.0.1", ["10.0.0.3,10.0.0.2"], "10.0.0.3", "a caller inside the networks: the left-most"),
    Case(
        "10.0.0.1", ["1.1.1.1, unknown"], "10.0.0.1", "RFC 7239's word: the proxy does not say, and nothing left of it"
    ),
    Case("10.0.0.1", ["1.1.1.1, "], "10.0.0.1", "an empty entry"),
    Case("10.0.0.1", [""], "10.0.0.1", "an empty header"),
    Case("10.0.0.1", ["1.1.1.1, 10.0.0.256"], "10.0.0.1", "no address"),
    Case("10.0.0.1", ["198.51.100.7:5012"], "198.51.100.7", "an IPv4 address with its port"),
    Case("10.0.0.1", ["[2001:db8::7]:5012"], "2001:db8::7", "an IPv6 address with its port"),
    Case("10.0.0.1", ["[2001:db8::7]"], "2001:db8::7", "brackets"),
    Case("10.0.0.1", ["2001:DB8:0::7"], "2001:db8::7", "one spelling of each address"),
    Case("10.0.0.1", ["fe80::1%eth0"], "fe80::1", "a zone is a name of the proxy's own"),
    Case("10.0.0.1", ["[10.0.0.2"], "10.0.0.1", "half a bracket"),
    Case("10.0.0.1", ["\ud800\udcff"], "10.0.0.1", "bytes that are not UTF-8 arrive as surrogates"),
    Case("10.0.0.1", ["x" * 9_000], "10.0.0.1", "a long entry"),
    Case("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7", "an IPv4 peer on an IPv6 socket"),
    Case("10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7", "the same in the header"),
    Case("2001:db8:1::5", ["2001:db8:2::9"], "2001:db8:2::9", "IPv6 throughout"),
    Case("", ["198.51.100.7"], "", "a Unix socket has no address, so no network contains it"),
    Case(None, ["198.51.100.7"], None, "a connection that ended"),
    Case("10.0.0.1", ["1.1.1.1," * 10_000 + "198.51.100.7"], "198.51.100.7", "ten thousand entries"),
    Case("10.0.0.1", ["1.1.1.1", "10.0.0.2," * 10_000 + "10.0.0.3"], "10.0.0.2", "ten thousand proxies"),
    Case("10.0.0.1", ["1.1.1.1", *["10.0.0.2"] * MAX_HOPS], "10.0.0.2", "one hop more than are read, in lines"),
    Case("10.0.0.1", ["1.1.1.1", *["10.0.0.2"] * (MAX_HOPS - 1)], "1.1.1.1", "the most hops, in lines"),
    Case("10.0.0.1", ["1.1.1.1," + ",".join(["10.0.0.2"] * (MAX_HOPS - 1))], "1.1.1.1", "the most hops, in one line"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_the_right_most_address_that_is_no_proxy_counts(case: Case) -> None:
    assert TrustedProxies(PROXIES).client(case.peer, case.forwarded) == case.expected


def test_no_header_of_a_caller_changes_the_address_that_its_proxy_appended() -> None:
    proxies, dice = TrustedProxies(PROXIES), random.Random(20261126)
    for _ in range(2_000):
        lines = [
            "".join(dice.choices('0123456789abf.:,[]% \t"=-;\u00e9\udc80', k=dice.randrange(60))) for _ in range(3)
        ]
        assert proxies.client("127.0.0.1", [*lines[:2], f"{lines[2]},192.0.2.9"]) == "192.0.2.9", lines


REFUSED: Final = [
    ("10.0.0.1/8", "'10.0.0.1/8' is not an address or a network such as 10.0.3.0/24"),
    ("proxy.example", "'proxy.example' is not an address or a network"),
    ("*", "'*' is not an address or a network"),
]


@pytest.mark.parametrize(("value", "error"), REFUSED)
def test_a_setting_that_is_no_network_is_refused(value: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHTALLY_TRUSTED_PROXIES", f"127.0.0.1,{value}")
    given: dict[str, Any] = {"auth": ("none",)}
    with pytest.raises(ValidationError) as refused:
        ApiSettings(**given)
    assert error in str(refused.value)


LIMITED: Final = "/api/v2/stats/active-users"


async def statuses(api: Api, forwarded: str, times: int = 3) -> list[int]:
    return [(await api.get(LIMITED, headers={"X-Forwarded-For": forwarded})).status for _ in range(times)]


@pytest.fixture
def limited(redis_url: str, tmp_path: Path) -> dict[str, Any]:
    limits = {"auth0_rate_limit": 2, "auth0_rate_per_s": 0.01}
    return {"redis_url": redis_url, **limits, **by_file(tmp_path, listed("good"))}


async def test_without_trusted_proxies_the_headers_are_ignored(serve: Serve, limited: dict[str, Any]) -> None:
    api = await serve(**limited)
    assert await statuses(api, "192.0.2.1") == [401, 401, 429]
    assert await statuses(api, "192.0.2.2", 1) == [429]


async def test_each_caller_of_a_trusted_proxy_has_its_own_allowance(serve: Serve, limited: dict[str, Any]) -> None:
    api = await serve(trusted_proxies="127.0.0.0/8", **limited)
    assert await statuses(api, "192.0.2.1") == [401, 401, 429]
    assert await statuses(api, "192.0.2.2") == [401, 401, 429]
    # A host of IPv6 has a network of addresses.
    assert await statuses(api, "2001:db8:7::1") == [401, 401, 429]
    assert await statuses(api, "2001:db8:7::2", 1) == [429]
    assert await statuses(api, "garbage, 192.0.2.1", 1) == [429]


async def test_bodies_and_repeated_headers_arrive_as_without_proxies(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, trusted_proxies="127.0.0.1")
    form = await api.post("/jans-auth/restv1/internal/stat", "month=202611")
    assert (form.status, "response" in form.json) == (200, True)
    for scheme in ("https", "http", "ftp", "https, http", "", "\u00e9"):
        answer = await api.get("/reporting/maximum?realms=*", headers={"X-Forwarded-Proto": scheme})
        assert answer.status == 200, scheme
