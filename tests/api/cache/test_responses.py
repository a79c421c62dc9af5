"""ETag and If-None-Match: an unchanged answer is 304, in every dialect."""

from __future__ import annotations

import pytest

from api.cache.responses import matches_etag
from tests.api.conftest import Clock, Serve
from tests.api.ledger_writer import LedgerWriter

PATHS = (
    "/jans-auth/restv1/internal/stat?month=202611",
    "/jans-auth/restv1/internal/stat?month=202611&format=openmetrics",
    "/oxauth/restv1/internal/stat?month=202611",
    "/api/v2/stats/daily?from=20261101&to=20261130",
)
PATH = PATHS[0]


@pytest.fixture(autouse=True)
def counted(ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11", range(5))
    ledger.few_users("2026-11-20", range(3))


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_that_the_client_has_is_304(serve: Serve, redis_url: str, clock: Clock, path: str) -> None:
    api = await serve(redis_url=redis_url)
    first = await api.get(path)
    etag = first.headers["ETag"]
    assert etag.startswith('"')
    clock.now += 7
    for _ in range(2):
        again = await api.get(path, headers={"If-None-Match": etag})
        assert (again.status, again.body) == (304, b"")
        assert (again.headers["ETag"], again.headers["Age"]) == (etag, "7")
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
        assert not {"Content-Type", "Content-Length", "Transfer-Encoding"} & set(again.headers)
    other = await api.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status, other.body) == (200, first.body)


async def test_an_answer_computed_anew_has_its_tag_unless_it_changed(
    serve: Serve, redis_url: str, ledger: LedgerWriter, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url, janssen_cache_ttl_s=10)
    etag = (await api.get(PATH)).headers["ETag"]
    clock.now += 20
    same = await api.get(PATH, headers={"If-None-Match": etag})
    assert (same.status, same.headers["Age"]) == (304, "0")
    ledger.few_users("2026-11", [99])
    clock.now += 20
    changed = await api.get(PATH, headers={"If-None-Match": etag})
    assert changed.status == 200
    assert changed.headers["ETag"] != etag


async def test_processes_return_equal_tags(serve: Serve, redis_url: str) -> None:
    tags = {(await (await serve(redis_url=redis_url)).get(PATH)).headers["ETag"] for _ in range(2)}
    assert len(tags) == 1


async def test_a_form_is_always_answered(serve: Serve, redis_url: str) -> None:
    """304 is for GET and HEAD (RFC 9110 §13.1.2)."""
    api = await serve(redis_url=redis_url)
    path, _, form = PATH.partition("?")
    assert (await api.post(path, form)).status == 200


async def test_a_refusal_has_no_tag(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    answer = await api.get("/jans-auth/restv1/internal/stat?month=x", headers={"If-None-Match": "*"})
    assert answer.status == 400
    assert "ETag" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "found", "why"),
    [
        (['"a1"'], True, "the tag"),
        (['W/"a1"'], True, "a weak one, as a compressing proxy makes it"),
        (['"b", "a1"'], True, "among others"),
        (['"b,c","a1" '], True, "beside one with a comma"),
        (['"b"', '"a1"'], True, "in a second header"),
        (["*"], True, "any"),
        ([], False, "no header"),
        ([""], False, "an empty one"),
        (['"A1"'], False, "another case"),
        (["a1"], False, "without quotes it is no tag"),
    ],
)
def test_a_tag_is_found(headers: list[str], found: bool, why: str) -> None:
    assert matches_etag('"a1"', headers) is found, why
