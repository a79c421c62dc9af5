"""Which labels a bearer can filter by, the overview's filters, and trailing windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.ledger import fields
from tests.api.conftest import Api, Clock, Serve
from tests.api.own_sample import NOON, query_api, serve_sample, values
from tests.api.sources import by_file, listed
from tests.api.worker import count, login

LABELS = [
    {"dimension": "realm", "realm": "acme"},
    {"dimension": "realm", "realm": "globex"},
    {"dimension": "realm", "realm": "typo"},
    {"dimension": "client_id", "realm": "acme", "client_id": "app"},
    {"dimension": "client_id", "realm": "acme", "client_id": "job"},
    {"dimension": "client_id", "realm": "acme", "client_id": "web"},
    {"dimension": "client_id", "realm": "globex", "client_id": "job"},
    {"dimension": "client_id", "realm": "globex", "client_id": "web"},
]


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock) -> Api:
    return await serve_sample(serve, redis_url, clock)


async def test_realms_are_those_of_any_event_and_clients_those_of_successes(api: Api) -> None:
    result = await query_api(api, "/v1/labels")
    assert (result["items"], result["complete"], result["left_out"]) == (LABELS, True, {"groups": 0})
    assert result["as_of"]["newest_event"] == "2028-03-01T12:00:00.000Z"


@pytest.mark.parametrize(
    ("query", "items", "left_out"),
    [
        ("dimension=realm", LABELS[:3], 0),
        ("dimension=client_id&realm=globex", LABELS[6:], 0),
        ("realm=globex", [LABELS[1], *LABELS[6:]], 0),
        ("limit=3", LABELS[:3], 5),
        ("realm=nowhere", [], 0),
        ("dimension=node", [], 0),
    ],
)
async def test_labels_can_be_narrowed(api: Api, query: str, items: list[dict[str, str]], left_out: int) -> None:
    result = await query_api(api, f"/v1/labels?{query}")
    assert (result["items"], result["left_out"]["groups"]) == (items, left_out)


async def test_labels_are_a_table_too(api: Api) -> None:
    lines = (await api.get("/v1/labels?format=csv&realm=globex")).text.splitlines()
    assert lines == ["dimension,realm,client_id", "realm,globex,", "client_id,globex,job", "client_id,globex,web"]


async def test_labels_are_complete_for_a_bearer_whose_own_realms_found_room(
    serve: Serve, redis_url: str, tmp_path: Path, clock: Clock
) -> None:
    at = "2026-11-20" + NOON
    many = range(fields.REALM_CLIENTS + 2)
    log = [login(at, "eve", realm="globex", client_id=f"made up {number}") for number in many]
    await count(redis_url, [*log, login(at, "ada", realm="acme", client_id="web")], partitions=1, max_labels=1)
    scopes = ["stats:read"]
    principals = {"all": None, "acme": ["acme"], "globex": ["globex"], "none": []}
    tokens = by_file(
        tmp_path,
        *(
            listed(name, scopes=scopes) if realms is None else listed(name, scopes=scopes, realms=realms)
            for name, realms in principals.items()
        ),
    )
    api = await serve(redis_url=redis_url, **tokens)

    async def completeness(query: str) -> dict[str, bool]:
        return {name: (await query_api(api, f"/v1/labels{query}", name))["complete"] for name in principals}

    # `acme` found no room among the realms of its shard.
    assert await completeness("") == {"all": False, "acme": False, "globex": False, "none": True}
    assert await completeness("?dimension=realm") == {"all": False, "acme": False, "globex": True, "none": True}
    assert await completeness("?dimension=client_id") == {"all": False, "acme": True, "globex": False, "none": True}


async def test_a_bearer_of_realms_sees_their_labels_and_no_nodes(
    serve: Serve, redis_url: str, tmp_path: Path, clock: Clock
) -> None:
    labels = {"realm": "acme", "client_id": "web", "node": "as1"}
    log = [login("2026-11-20" + NOON, "ada", **labels), login("2026-11-20" + NOON, "eve", realm="globex")]
    await count(redis_url, log, users_by=("realm", "node"))
    scopes = ["stats:read"]
    tokens = by_file(tmp_path, listed("all", scopes=scopes), listed("acme", scopes=scopes, realms=["acme"]))
    api = await serve(redis_url=redis_url, users_by=("realm", "node"), **tokens)
    everybodys = (await query_api(api, "/v1/labels", "all"))["items"]
    assert {"dimension": "node", "node": "as1"} in everybodys
    assert (await query_api(api, "/v1/labels", "acme"))["items"] == [
        {"dimension": "realm", "realm": "acme"},
        {"dimension": "client_id", "realm": "acme", "client_id": "web"},
    ]
    assert (await query_api(api, "/v1/labels?realm=globex", "acme"))["items"] == []
    overview = await query_api(api, "/v1/overview?realm=globex&date=2026-11-20", "acme")
    assert overview["dau"]["value"] == 0


async def test_the_overview_takes_the_filters_that_are_kept(api: Api) -> None:
    result = await query_api(api, "/v1/overview?date=2028-03-01&realm=globex")
    assert result["filters"] == {"realm": "globex"}
    assert (result["dau"]["value"], result["activity"]["day"]["logins"]["value"]) == (1, 1)
    assert result["activity"]["day"]["tokens"]["value"] == 1
    assert result["months"][-1]["value"] == 1
    everything = await query_api(api, "/v1/overview?date=2028-03-01")
    assert (everything["dau"]["value"], everything["activity"]["day"]["tokens"]["value"]) == (2, 5)
    client = await query_api(api, "/v1/overview?date=2028-03-01&client_id=web")
    assert client["activity"]["day"]["logins"]["value"] == 1


async def test_the_overview_names_the_setting_that_would_keep_a_filter(
    serve: Serve, redis_url: str, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url)
    refused = await api.get("/v1/overview?client_id=web")
    assert (refused.status, refused.json["parameter"]) == (400, "client_id")
    assert "USERS_BY" in refused.json["detail"]
    api = await serve(redis_url=redis_url, users_by=("client",), counts_by=())
    assert "COUNTS_BY" in (await api.get("/v1/overview?client_id=web")).json["detail"]


@pytest.mark.parametrize(
    ("query", "expected", "why"),
    [
        ("trailing=1&from=2028-02-29&to=2028-03-01", {"2028-02-29": 1, "2028-03-01": 2}, "the days themselves"),
        ("trailing=2&from=2028-02-29&to=2028-03-02", {"2028-02-29": 1, "2028-03-01": 2, "2028-03-02": 2}, "a leap day"),
        ("trailing=7&from=2027-01-01&to=2027-01-08", {"2027-01-01": 2, "2027-01-07": 2, "2027-01-08": 0}, "New Year"),
        ("trailing=2&from=2028-03-01&to=2028-03-01&realm=globex", {"2028-03-01": 1}, "of a realm"),
    ],
)
async def test_trailing_days_are_united(api: Api, query: str, expected: dict[str, int], why: str) -> None:
    found = values(await query_api(api, f"/v1/active-users?{query}"))
    assert expected.items() <= found.items(), why


async def test_a_trailing_period_has_its_days(api: Api) -> None:
    """And is no other question's answer: both reach over the same days."""
    (item,) = (await query_api(api, "/v1/active-users?trailing=7&from=2028-03-01&to=2028-03-01"))["items"]
    assert (item["period"], item["from"], item["to"]) == ("2028-03-01", "2028-02-24", "2028-03-01")
    assert len((await query_api(api, "/v1/active-users?from=2028-02-24&to=2028-03-01"))["items"]) == 7


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("trailing=0", "not a whole number from 1 to 90"),
        ("trailing=91", "not a whole number from 1 to 90"),
        ("trailing=7&granularity=week", "needs the granularity day"),
        ("trailing=30&from=2028-01-01&to=2028-04-30", "the maximum is 3000"),
    ],
)
async def test_trailing_windows_are_bounded(api: Api, query: str, words: str) -> None:
    answer = await api.get(f"/v1/active-users?{query}")
    assert (answer.status, answer.json["parameter"]) == (400, "trailing")
    assert words in answer.json["detail"]
