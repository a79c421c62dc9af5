"""`/oxauth/restv1/internal/stat`: months and metrics only, and the interval between calls."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.servers import Valkey
from tests.api.conftest import Clock, Serve
from tests.api.ledger_writer import LedgerWriter, open_ledger

STAT = "/oxauth/restv1/internal/stat"
NONE = {"id_token": 0, "refresh_token": 0, "uma_token": 0}
NOVEMBER = {
    "monthly_active_users": 2,
    "token_count_per_granttype": {
        "authorization_code": {"access_token": 144, "id_token": 144, "refresh_token": 0, "uma_token": 0},
        "client_credentials": {"access_token": 10} | NONE,
    },
}


@pytest.fixture(autouse=True)
def counted(ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11", range(2))
    ledger.tokens(
        "2026-11",
        {"authorization_code": {"access_token": 144, "id_token": 144}, "client_credentials": {"access_token": 10}},
    )


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("month=202611", "one month"),
        ("month=202609+202611", "a month without data is left out"),
        ("month=202611%2520202611", "encoded twice, and a duplicate"),
        ("month=202609&month=202611", "repeated, as Prometheus writes lists"),
        ("month=202611&start-month=202601&end-month=202602", "bounds are unknown here and ignored"),
        ("month=202611&format=jsonmonth", "so is a format that only Janssen has"),
    ],
)
async def test_documented_answers(serve: Serve, redis_url: str, query: str, why: str) -> None:
    api = await serve(redis_url=redis_url)
    for answer in (await api.get(f"{STAT}?{query}"), await api.post(STAT, query)):
        assert (answer.status, answer.json) == (200, {"response": {"202611": NOVEMBER}}), why


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "nothing"),
        ("month=202611+20261", "a good item and one of five characters"),
        ("month=", "blank"),
        ("start-month=202610&end-month=202611", "bounds do not count as a month"),
        ("month=2026", "wrong length"),
        ("month=abcdef", "no month"),
        ("month=202613", "no such month"),
    ],
)
async def test_bad_questions(serve: Serve, redis_url: str, query: str, why: str) -> None:
    answer = await (await serve(redis_url=redis_url)).get(f"{STAT}?{query}")
    assert (answer.status, answer.json["error"]) == (400, "invalid_request"), why
    assert "`month`" in answer.json["error_description"]


async def test_metrics_text_is_as_documented(serve: Serve, redis_url: str) -> None:
    answer = await (await serve(redis_url=redis_url)).get(f"{STAT}?month=202611&format=openmetrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'monthly_active_users{month="202611",} 2.0\n' in answer.text
    assert 'access_token{month="202611",grantType="client_credentials",} 10.0\n' in answer.text
    samples = {
        # The parser gives every counter's sample this end, written or not.
        (sample.name.removesuffix("_total"), sample.labels.get("grantType")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples == {
        ("monthly_active_users", None): 2,
        ("access_token", "authorization_code"): 144,
        ("access_token", "client_credentials"): 10,
        ("id_token", "authorization_code"): 144,
        ("id_token", "client_credentials"): 0,
        ("refresh_token", "authorization_code"): 0,
        ("refresh_token", "client_credentials"): 0,
        ("uma_token", "authorization_code"): 0,
        ("uma_token", "client_credentials"): 0,
    }


async def test_a_question_is_computed_once_in_the_interval(
    serve: Serve, redis_url: str, ledger: LedgerWriter, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url, gluu_interval_s=60)
    await api.get(f"{STAT}?month=202611")
    ledger.few_users("2026-11", [7])
    clock.now += 59.9
    again = await api.get(f"{STAT}?month=202611")
    assert again.json["response"]["202611"]["monthly_active_users"] == 2
    assert again.headers["Age"] == "59"
    assert again.headers["Cache-Control"] in ("private, max-age=60", "private, max-age=61")
    clock.now += 2
    later = await api.get(f"{STAT}?month=202611")
    assert later.json["response"]["202611"]["monthly_active_users"] == 3
    assert later.headers["Age"] == "0"


async def test_the_source_shape_refuses_a_second_call_in_the_interval(
    serve: Serve, redis_url: str, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url, gluu_shape="source", gluu_interval_s=60)
    assert (await api.get(f"{STAT}?month=")).status == 400, "a bad month does not start the interval"
    assert (await api.get(f"{STAT}?month=202611")).status == 200
    refused = await api.get(f"{STAT}?month=202610")
    assert (refused.status, refused.json) == (403, {"error": "access_denied", "error_description": "access_denied"})
    clock.now += 60
    assert (await api.get(f"{STAT}?month=202611")).status == 200


async def test_a_stale_answer_of_the_source_shape_is_marked(serve: Serve, clock: Clock) -> None:
    with Valkey() as store:
        open_ledger(store.url).few_users("2026-11", range(2))
        api = await serve(redis_url=store.url, gluu_shape="source", gluu_interval_s=60)
        assert "Cache-Status" not in (await api.get(f"{STAT}?month=202611")).headers
        store.kill()
        clock.now += 60
        old = await api.get(f"{STAT}?month=202611")
        assert (old.status, old.headers["Age"]) == (200, "60")
        assert old.headers["Cache-Status"].startswith("authtally; hit; ttl=-")


async def test_the_source_shape_has_the_products_text_for_a_missing_month(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, gluu_shape="source", stat_error_reason=True)
    for query in ("", "month=2026"):
        answer = await api.get(f"{STAT}?{query}")
        blank = "`month` parameter can't be blank and should be in format yyyyMM (e.g. 202012)"
        assert (answer.status, answer.json["reason"]) == (400, blank)


async def test_the_source_shape_looks_up_what_is_no_month(serve: Serve, redis_url: str) -> None:
    answer = await (await serve(redis_url=redis_url, gluu_shape="source")).get(f"{STAT}?month=abcdef")
    assert (answer.status, answer.json) == (200, {"response": {}})


async def test_health_check_reports_the_store(serve: Serve, redis_url: str) -> None:
    answer = await (await serve(redis_url=redis_url)).get("/oxauth/sys/health-check")
    assert (answer.status, answer.json) == (200, {"status": "running", "db_status": "online"})
