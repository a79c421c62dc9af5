"""Which regions and realms a token sees, and that no answer of one token serves another."""

from __future__ import annotations

from typing import Any

import pytest

from api.auth.claims import AcceptedTokens, principal_of
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.settings import SettingsError, read
from tests.api.regions.conftest import TOKENS, Region, Start, write_tokens
from tests.api.worker import count, login

PATH = "/v1/active-users?from=2026-10-01&to=2026-10-31&granularity=month"


@pytest.fixture
async def three(start: Start, stores: list[Valkey]) -> dict[str, Region]:
    """Regions with 100 users each in acme, and 50, 60, 70 in globex; answers are cached."""
    for number, store in enumerate(stores):
        acme = [login("2026-10-01T10:00:00Z", f"a-{user}", realm="acme") for user in range(100)]
        globex = [login("2026-10-01T10:00:00Z", f"g-{user}", realm="globex") for user in range(50 + 10 * number)]
        await count(store.url, [*acme, *globex])
    return await start(("eu", "us", "ap"), region_users="distinct", cache_ttl_s=60)


ROWS: list[tuple[str, str, int, Any, str]] = [
    ("all", "", 200, 150, "without `region` the own one"),
    ("all", "&region=all", 200, 480, "every region"),
    ("all", "&region=us", 200, 160, "one other"),
    ("all", "&region=ap,us", 200, 330, "two others"),
    ("eu-us", "&region=all", 200, 310, "all that this token sees"),
    ("eu-us", "&region=ap", 400, None, "not in its regions"),
    ("eu-us", "&region=us,ap", 400, None, "one is not in its regions"),
    ("own", "", 200, 150, "no claim"),
    ("own", "&region=all", 200, 150, "no claim: all is the own one"),
    ("own", "&region=eu", 200, 150, "its own"),
    ("own", "&region=us", 400, None, "no claim"),
    ("acme", "&region=all", 200, 300, "limited to a realm in every region"),
    ("acme", "&region=all&realm=globex", 200, 0, "another realm is empty for it"),
    ("us-only", "", 403, None, "a token of another region is refused"),
    ("us-only", "&region=us", 403, None, "even for its own region: that region's api answers it"),
    ("all", "&region=mars", 400, None, "no such region"),
    ("all", "&region=eu,eu", 400, None, "twice"),
    ("all", "&region=EU", 400, None, "no name of a region"),
    ("all", "&region=eu,all", 400, None, "all is alone"),
    ("all", "&region=", 400, None, "blank"),
]


async def test_what_a_token_sees(three: dict[str, Region]) -> None:
    eu = three["eu"]
    # Twice, so that the second round is answered from the cache.
    for _ in range(2):
        for token, query, status, value, why in ROWS:
            if status == 200:
                answer = await (eu.whole if query else eu.ask)(PATH + query, token)
                assert answer["items"][0]["value"] == value, (token, query, why)
            else:
                refused = await eu.api.get(PATH + query, token)
                assert refused.status == status, (token, query, why, refused.body)


async def test_the_regions_that_a_token_sees_are_listed(three: dict[str, Region]) -> None:
    for token, names in (("all", ["eu", "us", "ap"]), ("own", ["eu"]), ("eu-us", ["eu", "us"])):
        assert [item["region"] for item in (await three["eu"].ask("/v1/regions", token))["items"]] == names


@pytest.mark.parametrize("token", ["own", "eu-us", "acme-own"])
@pytest.mark.parametrize("query", ["", "&group_by=region", "&format=csv"])
async def test_a_hidden_region_is_answered_as_one_that_does_not_exist(
    three: dict[str, Region], token: str, query: str
) -> None:
    """As realms: a bearer must not learn of what it does not see."""
    for path in (PATH, "/v1/lifecycle", "/v1/retention", "/v1/labels", "/v1/logins", "/v1/overview", "/v1/m2m"):
        asked = f"{path}{'&' if '?' in path else '?'}region="
        more = query if path in (PATH, "/v1/lifecycle", "/v1/retention") else query.replace("&group_by=region", "")
        hidden, unknown = [await three["eu"].api.get(f"{asked}{name}{more}", token) for name in ("ap", "mars")]
        assert (hidden.status, hidden.headers["Content-Type"]) == (unknown.status, unknown.headers["Content-Type"])
        assert hidden.status == 400, hidden.body
        assert hidden.text.replace("region ap", "region mars") == unknown.text, path
        assert "us" not in unknown.json["detail"].split() or token == "eu-us", "names only what the bearer sees"


async def test_grouped_rows_have_only_regions_and_realms_of_the_token(three: dict[str, Region]) -> None:
    answer = await three["eu"].whole(f"{PATH}&group_by=region,realm", "acme")
    rows = [(item["region"], item["realm"], item["value"]) for item in answer["items"]]
    assert rows == [("eu", "acme", 100), ("us", "acme", 100), ("ap", "acme", 100)]
    answer = await three["eu"].whole(f"{PATH}&group_by=region", "eu-us")
    assert [(item["region"], item["value"]) for item in answer["items"]] == [("eu", 150), ("us", 160)]


async def test_partitions_of_all_regions(three: dict[str, Region]) -> None:
    answer = await three["eu"].whole("/v1/pipeline?region=all")
    assert [(item["region"], item["topic"], item["partition"]) for item in answer["items"]] == [
        (region, "auth.logins", number) for region in ("eu", "us", "ap") for number in range(2)
    ]
    assert answer["total"]["consumed"] == 480
    assert (await three["eu"].api.get("/v1/pipeline?region=all", "acme")).status == 403


@pytest.mark.parametrize("path", ["/v1/region", "/v1/region/ids"])
async def test_exports_need_their_scope_and_all_realms(three: dict[str, Region], path: str) -> None:
    eu = three["eu"]
    assert (await eu.api.get(path, "peer")).status == 200
    assert (await eu.api.get(path, "all")).status == 403
    assert (await eu.api.get(path)).status == 401
    assert (await eu.api.get(path, "peer-acme")).status == 403
    assert (await eu.api.get(path, "us-only")).status == 403
    assert (await eu.api.get(PATH, "peer")).status == 403, "the scope of exports opens no statistics"


@pytest.mark.parametrize("path", ["/v1/otp-tokens", "/v1/metrics", "/v1/regions"])
async def test_other_routes_are_of_the_own_region(three: dict[str, Region], path: str) -> None:
    answer = await three["eu"].api.get(f"{path}?region=us", "all")
    assert answer.status == 400
    assert "`region` is not a parameter of this route" in answer.json["detail"]


@pytest.mark.parametrize(
    ("claims", "regions"),
    [
        ({}, None),
        ({"regions": ["eu", "us"]}, {"eu", "us"}),
        ({"regions": "eu"}, {"eu"}),
        ({"regions": None}, set()),
        ({"regions": []}, set()),
        ({"regions": ["*"]}, {"*"}),
    ],
)
def test_the_claim(claims: dict[str, Any], regions: set[str] | None) -> None:
    principal = principal_of({"sub": "a", **claims}, AcceptedTokens("", (), "realms", False), 0)
    assert principal.regions == regions
    sees = {name for name in ("eu", "us", "ap") if principal.sees_region(name, "eu")}
    expected = {"eu"} if regions is None else {"eu", "us", "ap"} if "*" in regions else regions
    assert sees == expected


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"region": "EU"}, "AUTHTALLY_REGION: 'EU' is not the name of a region"),
        ({"region": "all"}, "AUTHTALLY_REGION: 'all' is not the name of a region"),
        ({"region": "eu"}, "AUTHTALLY_REGION_USERS: is not set, but AUTHTALLY_REGION is"),
        ({"region_users": "shared"}, "AUTHTALLY_REGION_USERS is set, but AUTHTALLY_REGION is not"),
        ({"region": "eu", "region_users": "shared", "auth": ("none",)}, "AUTH=none would export figures to everybody"),
        ({"region": "eu", "region_users": "both"}, "AUTHTALLY_REGION_USERS"),
    ],
)
def test_settings_name_what_is_wrong(tmp_path: Any, given: dict[str, Any], fault: str) -> None:
    usual: dict[str, Any] = {"auth": ("static",), "auth_tokens_file": write_tokens(tmp_path)}
    with pytest.raises(SettingsError) as raised:
        read(ApiSettings, **usual | given)
    assert fault in str(raised.value)


PEER = '{"name": "us", "url": "https://us.example.com", "token_file": "TOKEN"}'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{}", "is not a list of peers"),
        (
            f"[{', '.join(PEER.replace('us', f'r{number}', 1) for number in range(33))}]",
            "contains 33 peers; allowed: 0 to 32",
        ),
        (f"[{PEER.replace('us', 'eu', 1)}]", "a peer has the name of AUTHTALLY_REGION, eu"),
        (f"[{PEER}, {PEER}]", "[1] (us): two peers have this name"),
        (f"[{PEER.replace('us', 'all', 1)}]", "no region can be named all"),
        (f"[{PEER.replace('https://', 'ftp://')}]", "[0] (us): url must be http:// or https://"),
        (f"[{PEER.replace('https://', 'https://me:secret@')}]", "[0] (us): url must be http:// or https://"),
        (f"[{PEER.replace('TOKEN', '/nowhere')}]", "[0] (us): token_file /nowhere: /nowhere cannot be read"),
        (f"[{PEER.replace('TOKEN', 'EMPTY')}]", "must contain one token of 1 to 8000 visible ASCII characters"),
        (f'[{PEER[:-1]}, "ca": "EMPTY"}}]', "[0] (us): ca="),
        (f'[{PEER[:-1]}, "cert": "x"}}]', "cert"),
    ],
)
def test_the_file_of_peers_names_what_is_wrong(tmp_path: Any, text: str, fault: str) -> None:
    tokens = write_tokens(tmp_path)
    (tmp_path / "empty").write_text("")
    file = tmp_path / "peers.json"
    file.write_text(text.replace("TOKEN", str(tmp_path / "peer.token")).replace("EMPTY", str(tmp_path / "empty")))
    with pytest.raises(SettingsError) as raised:
        read(
            ApiSettings,
            auth=("static",),
            auth_tokens_file=tokens,
            region="eu",
            region_users="shared",
            peers_file=file,
        )
    assert fault in str(raised.value)
    assert "secret" not in str(raised.value)


def test_every_token_of_these_tests_has_a_known_scope() -> None:
    assert all(entry["scopes"] for entry in TOKENS.values())
