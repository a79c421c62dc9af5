"""`/jans-auth/restv1/internal/stat` as its document has it, and as the server really answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Serve
from tests.api.ledger_writer import LedgerWriter
from tests.api.sources import by_file, listed

STAT = "/jans-auth/restv1/internal/stat"

PASSWORD = {"access_token": 8, "id_token": 7, "refresh_token": 6, "uma_token": 5}
CIBA = "urn:openid:params:grant-type:ciba"

OCTOBER_TOKENS = {"password": PASSWORD, CIBA: {"access_token": 1, "id_token": 0, "refresh_token": 0, "uma_token": 0}}
OCTOBER = {"monthly_active_users": 3, "token_count_per_granttype": OCTOBER_TOKENS}
NOVEMBER = {"monthly_active_users": 5, "token_count_per_granttype": {"password": PASSWORD}}
# `logout_status_jwt` is counted and returned by the server, but no document names it.
NOVEMBER_IN_SOURCE = NOVEMBER | {"token_count_per_granttype": {"password": PASSWORD | {"logout_status_jwt": 9}}}


@pytest.fixture(autouse=True)
def counted(ledger: LedgerWriter) -> None:
    ledger.few_users("2026-10", range(3))
    ledger.few_users("2026-11", range(5))
    ledger.tokens("2026-10", {"password": PASSWORD, CIBA: {"access_token": 1}})
    ledger.tokens("2026-11", {"password": PASSWORD | {"logout_status_jwt": 9}})
    ledger.other_counts("2026-11")


class AnswerCase(NamedTuple):
    query: str
    answer: Any
    why: str


DOCUMENTED = [
    AnswerCase("month=202611", {"response": {"202611": NOVEMBER}}, "one month, recommended by the document"),
    AnswerCase(
        "month=202610%20202611", {"response": {"202610": OCTOBER, "202611": NOVEMBER}}, "the document's separator"
    ),
    AnswerCase("month=202610+202611", {"response": {"202610": OCTOBER, "202611": NOVEMBER}}, "a form's separator"),
    AnswerCase("month=202610%2520202611", {"response": {"202610": OCTOBER, "202611": NOVEMBER}}, "encoded twice"),
    AnswerCase("month=202611%20202610", {"response": {"202610": OCTOBER, "202611": NOVEMBER}}, "any order"),
    AnswerCase("month=202611+202611+202611", {"response": {"202611": NOVEMBER}}, "duplicates are dropped"),
    AnswerCase("month=202610++202611+", {"response": {"202610": OCTOBER, "202611": NOVEMBER}}, "blanks are no items"),
    AnswerCase(
        "month=202611&month=202610",
        {"response": {"202610": OCTOBER, "202611": NOVEMBER}},
        "a repeated month, as Prometheus writes lists",
    ),
    AnswerCase(
        "month=202611&format=json&format=openmetrics", {"response": {"202611": NOVEMBER}}, "the first of other repeats"
    ),
    AnswerCase("month=202609+202611", {"response": {"202611": NOVEMBER}}, "a month without data is left out"),
    AnswerCase("month=202609", {"response": {}}, "and nothing is left when there is none with data"),
    AnswerCase(
        "start-month=202609&end-month=202611", {"response": {"202610": OCTOBER, "202611": NOVEMBER}}, "inclusive"
    ),
    AnswerCase("start-month=202611&end-month=202611", {"response": {"202611": NOVEMBER}}, "start = end is one month"),
    AnswerCase(
        "start-month=201612&end-month=202611", {"response": {"202610": OCTOBER, "202611": NOVEMBER}}, "120 months"
    ),
    AnswerCase(
        "month=&start-month=202611&end-month=202611", {"response": {"202611": NOVEMBER}}, "a blank month is none"
    ),
    AnswerCase("month=202611&start-month=", {"response": {"202611": NOVEMBER}}, "a blank bound is none"),
    AnswerCase("month=202611&format=xml", {"response": {"202611": NOVEMBER}}, "an unknown format is JSON"),
    AnswerCase(
        "month=202610+202611&format=jsonmonth",
        [
            {"month": "202610", "montly_active_users": 3} | OCTOBER,
            {"month": "202611", "montly_active_users": 5} | NOVEMBER,
        ],
        "flat, with the document's spelling and the right one",
    ),
    AnswerCase("month=202609&format=jsonmonth", [], "flat and empty"),
]

SOURCE = [
    AnswerCase("month=202611", {"response": [{"month": "202611"} | NOVEMBER_IN_SOURCE]}, "a list, not a map"),
    AnswerCase(
        "month=202611&format=jsonmonth",
        {"response": {"202611": {"month": "202611"} | NOVEMBER_IN_SOURCE}},
        "a map, not a list",
    ),
    AnswerCase(
        "month=202611&start-month=202610",
        {"response": [{"month": "202611"} | NOVEMBER_IN_SOURCE]},
        "month wins over one bound",
    ),
    AnswerCase("month=abcdef", {"response": []}, "six characters are looked up and not found"),
    AnswerCase("month=202113+202609", {"response": []}, "so is a thirteenth month"),
    AnswerCase(
        "month=202611+20210", {"response": [{"month": "202611"} | NOVEMBER_IN_SOURCE]}, "another length is dropped"
    ),
    AnswerCase(
        "month=202611&month=202610", {"response": [{"month": "202611"} | NOVEMBER_IN_SOURCE]}, "the first month counts"
    ),
]


@pytest.mark.parametrize("case", DOCUMENTED, ids=lambda case: case.why)
async def test_documented_answers(serve: Serve, redis_url: str, case: AnswerCase) -> None:
    answer = await (await serve(redis_url=redis_url)).get(f"{STAT}?{case.query}")
    assert (answer.status, answer.json) == (200, case.answer)
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("case", DOCUMENTED, ids=lambda case: case.why)
async def test_a_form_is_answered_as_the_same_query(serve: Serve, redis_url: str, case: AnswerCase) -> None:
    answer = await (await serve(redis_url=redis_url)).post(STAT, case.query)
    assert (answer.status, answer.json) == (200, case.answer)


@pytest.mark.parametrize("case", SOURCE, ids=lambda case: case.why)
async def test_answers_of_the_source_shape(serve: Serve, redis_url: str, case: AnswerCase) -> None:
    answer = await (await serve(redis_url=redis_url, janssen_shape="source")).get(f"{STAT}?{case.query}")
    assert (answer.status, answer.json) == (200, case.answer)


class Refused(NamedTuple):
    query: str
    says: str
    why: str


ELEVEN_YEARS = [f"{year}{month:02}" for year in range(2010, 2021) for month in range(1, 13)]

REFUSED = [
    Refused("", "are needed", "nothing"),
    Refused("format=jsonmonth", "are needed", "no month"),
    Refused("month=%20", "are needed", "a blank month"),
    Refused("start-month=202610", "are needed", "a start alone"),
    Refused("end-month=202610", "are needed", "an end alone"),
    Refused("month=202610&start-month=202610", "together", "month with a start"),
    Refused("month=202610&end-month=202610", "together", "month with an end"),
    Refused("month=202610&start-month=202610&end-month=202611", "together", "month with both"),
    Refused("start-month=202611&end-month=202610", "after", "start after end"),
    Refused("month=202113", "202113", "a thirteenth month"),
    Refused("month=202611+abcdef", "abcdef", "no month among good ones"),
    Refused("month=2026+11", "2026 is not a month", "no item of six characters"),
    Refused("month=202611+20210", "20210 is not a month", "a good item and one of five characters"),
    Refused("month=202611+202113", "202113 is not a month", "a good item and a thirteenth month"),
    Refused("month=202611&month=20210", "20210 is not a month", "a bad item in a repeated parameter"),
    Refused("month=" + "9" * 500, f"{'9' * 50} is not a month", "a long item is cut"),
    Refused("start-month=202113&end-month=202212", "start-month", "a thirteenth month as a start"),
    Refused("start-month=202112&end-month=abcdef", "end-month", "no month as an end"),
    Refused("start-month=20211&end-month=202112", "start-month", "a bound of five characters"),
    Refused("start-month=201611&end-month=202611", "120", "121 months"),
    Refused("start-month=000101&end-month=999912", "120", "all of history"),
    Refused(
        "month=" + "+".join(f"{year}{month:02}" for year in range(2010, 2021) for month in range(1, 13)),
        "120",
        "132 listed months",
    ),
    Refused("month=202611&x=" + "y" * 4096, "4096 bytes", "a query over 4 KB"),
    Refused("month=202611" + "&a" * 64, "parameters", "65 parameters"),
]

NEEDED = "`month` or `start-month`/`end-month` parameter(s) can't be blank and should be in format yyyyMM (e.g. 202012)"
UNIDENTIFIED = (
    "Unable to identify months. Check `month` or `start-month`/`end-month` parameter(s). It can't be blank and should "
    "be in format yyyyMM (e.g. 202012). start-month must be before end-month"
)

REFUSED_BY_SOURCE = [
    Refused("month=202610&start-month=202610&end-month=202611", NEEDED, "month with both bounds"),
    Refused("", NEEDED, "nothing"),
    Refused("start-month=202611", NEEDED, "one bound"),
    Refused("month=20210", UNIDENTIFIED, "no item of six characters"),
    Refused("month=%2520", UNIDENTIFIED, "a blank that is encoded twice"),
    Refused("start-month=202611&end-month=202611", UNIDENTIFIED, "start = end"),
    Refused("start-month=202611&end-month=202610", UNIDENTIFIED, "start after end"),
    Refused("start-month=20261&end-month=202611", UNIDENTIFIED, "a bound of five characters"),
    Refused("start-month=abcdef&end-month=202611", UNIDENTIFIED, "no month: 500 there, which helps no client"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.why)
async def test_bad_questions(serve: Serve, redis_url: str, case: Refused) -> None:
    api = await serve(redis_url=redis_url)
    answer = await api.get(f"{STAT}?{case.query}")
    assert answer.status == 400
    assert set(answer.json) == {"error", "error_description"}
    assert answer.json["error"] == "invalid_request"
    assert case.says in answer.json["error_description"]
    posted = await api.post(STAT, case.query)
    assert (posted.status, posted.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("case", REFUSED_BY_SOURCE, ids=lambda case: case.why)
async def test_bad_questions_in_the_source_shape(serve: Serve, redis_url: str, case: Refused) -> None:
    api = await serve(redis_url=redis_url, janssen_shape="source", stat_error_reason=True)
    answer = await api.get(f"{STAT}?{case.query}")
    assert answer.status == 400
    assert answer.json == {"reason": case.says, "error_description": DESCRIPTION, "error": "invalid_request"}


DESCRIPTION = (
    "The request is missing a required parameter, includes an unsupported parameter or parameter value, repeats a "
    "parameter, includes multiple credentials, utilizes more than one mechanism for authenticating the client, or is "
    "otherwise malformed."
)


async def test_an_error_of_the_source_shape_is_printed_as_the_server_does(serve: Serve, redis_url: str) -> None:
    answer = await (await serve(redis_url=redis_url, janssen_shape="source")).get(STAT)
    expected = f'{{\n    "error_description": "{DESCRIPTION}",\n    "error": "invalid_request"\n}}'
    assert (answer.status, answer.text) == (400, expected), "indent 4, no reason by default"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("unknown", "Can't find grant for authorization."),
        ("without", "jans_stat scope is required for token."),
    ],
)
@pytest.mark.parametrize("path", [STAT, "/oxauth/restv1/internal/stat"])
async def test_the_reasons_of_a_refused_token_in_the_source_shape(
    serve: Serve, redis_url: str, tmp_path: Path, path: str, token: str, reason: str
) -> None:
    settings = by_file(tmp_path, listed("without", scopes=["stats:read"])) | {"redis_url": redis_url}
    for reasons in (True, False):
        api = await serve(janssen_shape="source", gluu_shape="source", stat_error_reason=reasons, **settings)
        answer = await api.get(f"{path}?month=202611", token)
        denied = {"error_description": "access_denied", "error": "access_denied"}
        assert (answer.status, answer.json) == (401, {"reason": reason} | denied if reasons else denied)


async def test_a_body_that_is_no_form_is_refused_as_such(serve: Serve, redis_url: str) -> None:
    answer = await (await serve(redis_url=redis_url)).post(STAT, '{"month": "202611"}', "application/json")
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert "application/x-www-form-urlencoded" in answer.json["error_description"]


DOCUMENTED_METRICS = """\
# HELP monthly_active_users Monthly active users
# TYPE monthly_active_users counter
monthly_active_users{month="202611"} 5.0
# HELP refresh_token Refresh Token
# TYPE refresh_token counter
refresh_token{month="202611",grantType="password"} 6.0
# HELP id_token Id Token
# TYPE id_token counter
id_token{month="202611",grantType="password"} 7.0
# HELP access_token Access Token
# TYPE access_token counter
access_token{month="202611",grantType="password"} 8.0
# HELP uma_token UMA Token
# TYPE uma_token counter
uma_token{month="202611",grantType="password"} 5.0
"""


@pytest.mark.parametrize("wanted", ["openmetrics", "OpenMetrics"])
async def test_metrics_text(serve: Serve, redis_url: str, wanted: str) -> None:
    answer = await (await serve(redis_url=redis_url)).get(f"{STAT}?month=202611&format={wanted}")
    assert answer.text == DOCUMENTED_METRICS
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_text_of_the_source_shape(serve: Serve, redis_url: str, ledger: LedgerWriter) -> None:
    ledger.tokens("2026-11", {"password": {"access_token": 1_939_497_070, "id_token": 9_999_992}})
    api = await serve(redis_url=redis_url, janssen_shape="source")
    answer = await api.get(f"{STAT}?month=202611&format=openmetrics")
    assert 'monthly_active_users{month="202611",} 5.0\n' in answer.text
    assert 'access_token{month="202611",grantType="password",} 1.939497078E9\n' in answer.text
    assert 'id_token{month="202611",grantType="password",} 9999999.0\n' in answer.text
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("shape", ["documented", "source"])
async def test_a_parser_reads_the_metrics_text_of_both_shapes(
    serve: Serve, redis_url: str, ledger: LedgerWriter, shape: str
) -> None:
    hostile = 'a"b\\c\nd{e}, é'
    ledger.tokens("2026-11", {hostile: {"uma_token": 20_000_000}})
    api = await serve(redis_url=redis_url, janssen_shape=shape)
    answer = await api.get(f"{STAT}?start-month=202610&end-month=202611&format=openmetrics")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert {name: family.documentation for name, family in families.items()} == {
        "monthly_active_users": "Monthly active users",
        "access_token": "Access Token",
        "id_token": "Id Token",
        "refresh_token": "Refresh Token",
        "uma_token": "UMA Token",
    }
    assert {family.type for family in families.values()} == {"counter"}
    samples = {
        # The parser gives every counter's sample this end, written or not.
        (sample.name.removesuffix("_total"), *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["monthly_active_users", "202610"] == 3
    assert samples["uma_token", "202611", hostile] == 20_000_000
    # Every family has every month and grant, zeros included: two grants each month.
    assert len(samples) == 2 + 4 * 4
    assert samples["refresh_token", "202610", CIBA] == 0


@pytest.mark.parametrize("product", ["jans-auth", "oxauth"])
async def test_health_check_takes_get_and_post(serve: Serve, redis_url: str, product: str) -> None:
    api, path = await serve(redis_url=redis_url), f"/{product}/sys/health-check"
    for answer in (await api.get(path), await api.post(path, ""), await api.post(path, "{}", "application/json")):
        assert (answer.status, answer.json) == (200, {"status": "running", "db_status": "online"})


async def test_health_check_reports_a_store_that_is_offline(serve: Serve) -> None:
    answer = await (await serve(redis_url="redis://127.0.0.1:1/0")).get("/jans-auth/sys/health-check")
    assert (answer.status, answer.json) == (200, {"status": "running", "db_status": "offline"})
