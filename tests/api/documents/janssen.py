"""Janssen's reporting overview: in Markdown, and as the page that its site shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.api.documents.statement import PRESENT, Statement

BEARER: Final = "czZCaGRSa3F0MzpnWDFmQmF0M2JW"
"""The token of the document's requests."""
STAT: Final = "/jans-auth/restv1/internal/stat"
SAMPLE: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("janssen_stat.json").read_text(encoding="utf-8"))
MONTHS: Final = SAMPLE["response"]
JANUARY: Final = {"response": {"202101": MONTHS["202101"]}}
FLAT: Final = [
    {"month": "202108", "montly_active_users": 5, "token_count_per_granttype": {}},
    {"month": "202109", "montly_active_users": 7, "token_count_per_granttype": {}},
]
KINDS: Final = {"access_token": PRESENT, "refresh_token": PRESENT, "uma_token": PRESENT, "id_token": PRESENT}
AUDIT: Final = "tests/schemas/adapters/test_janssen_audit.py::test_audit_messages_become_ours"
ORACLE: Final = (
    "tests/api/ledger/test_statistics.py::test_active_users_equal_the_oracle_when_small_and_are_near_it_when_not"
)
BAD: Final = {"error": "invalid_request"}


def error(reason: str) -> dict[str, Any]:
    return {"error": reason, "error_description": PRESENT}


def grant_row(grant: str) -> Statement:
    counts = MONTHS["202101"]["token_count_per_granttype"][grant]
    return Statement(
        f"The sample counts tokens of the grant `{grant}`",
        f"{STAT}?month=202101",
        {"response": {"202101": {"token_count_per_granttype": {grant: counts}}}},
    )


STATEMENTS: Final = [
    Statement(
        "Metric data: monthly active users",
        f"{STAT}?month=202101",
        {"response": {"202101": {"monthly_active_users": 1939497078}}},
    ),
    Statement("Metric data: health check", "/jans-auth/sys/health-check", {"status": "running"}, token=None),
    Statement(
        "Metric data: tokens issued",
        f"{STAT}?month=202101",
        {"response": {"202101": {"token_count_per_granttype": PRESENT}}},
    ),
    Statement("Metric data: audit logs", "", proof=AUDIT),
    Statement(
        "`/jans-auth/restv1/internal/stat` is protected",
        f"{STAT}?month=202101",
        error("access_denied"),
        status=401,
        token=None,
    ),
    Statement(
        "The required scope is configurable (`statAuthorizationScope`)",
        f"{STAT}?month=202101",
        JANUARY,
        token="other",
        settings={"stat_scope": "stats:other"},
    ),
    Statement("The default scope is `jans_stat`", f"{STAT}?month=202101", JANUARY),
    Statement(
        "Without the scope: `UNAUTHORIZED`, 401",
        f"{STAT}?month=202101",
        error("access_denied"),
        status=401,
        token="other",
    ),
    Statement("`month` is in the format YYYYMM", f"{STAT}?month=202101", JANUARY),
    Statement(
        "January 2022 is `202201`", f"{STAT}?month=202201", {"response": {"202201": {"monthly_active_users": 9}}}
    ),
    Statement(
        "`start-month` starts a range",
        f"{STAT}?start-month=202101&end-month=202201",
        {"response": {"202101": PRESENT, "202201": PRESENT}},
    ),
    Statement("`end-month` ends a range", f"{STAT}?start-month=202012&end-month=202101", SAMPLE),
    Statement(
        "`format` without a value: JSON",
        f"{STAT}?month=202101&format=",
        JANUARY,
        headers={"Content-Type": "application/json"},
    ),
    Statement("No `format`: JSON", f"{STAT}?month=202101", JANUARY, headers={"Content-Type": "application/json"}),
    Statement(
        "`format=openmetrics`: metrics text",
        f"{STAT}?month=202101&format=openmetrics",
        says=("# TYPE monthly_active_users counter", 'month="202101"'),
        headers={"Content-Type": "text/plain; version=0.0.4"},
    ),
    Statement(
        "Metrics text under `application/json`",
        f"{STAT}?month=202101&format=openmetrics",
        verdict="as the product",
        why="with `JANSSEN_SHAPE=source`",
        headers={"Content-Type": "application/json"},
        says=('monthly_active_users{month="202101",} 1.939497078E9',),
        settings={"janssen_shape": "source"},
    ),
    Statement("`format=jsonmonth`: flattened by month", f"{STAT}?month=202108&format=jsonmonth", FLAT[:1]),
    Statement(
        "`GET /jans-auth/restv1/internal/stat?month=202101` with `Authorization: Bearer czZCaGRSa3F0MzpnWDFmQmF0M2JW`",
        f"{STAT}?month=202101",
        JANUARY,
        token=BEARER,
    ),
    Statement(
        "`GET /jans-auth/restv1/internal/stat?month=202012%20202101`",
        f"{STAT}?month=202012%20202101",
        SAMPLE,
        token=BEARER,
    ),
    Statement(
        "`GET /jans-auth/restv1/internal/stat?start-month=202102&end-month=202202`",
        f"{STAT}?start-month=202102&end-month=202202",
        {"response": {"202108": PRESENT, "202109": PRESENT, "202201": PRESENT, "202202": PRESENT}},
        token=BEARER,
    ),
    Statement(
        "A range includes both of its ends",
        f"{STAT}?start-month=202201&end-month=202202",
        {"response": {"202201": PRESENT, "202202": PRESENT}},
    ),
    Statement(
        "A range of one month",
        f"{STAT}?start-month=202101&end-month=202101",
        error("invalid_request"),
        verdict="as the product",
        why="400 with `JANSSEN_SHAPE=source`; that month in the documented shape",
        status=400,
        settings={"janssen_shape": "source", "stat_error_reason": True},
    ),
    Statement("`month` with `start-month`: 400", f"{STAT}?month=202101&start-month=202101", BAD, status=400),
    Statement("`month` with `end-month`: 400", f"{STAT}?month=202101&end-month=202101", BAD, status=400),
    Statement(
        "`month` with both bounds: 400", f"{STAT}?month=202101&start-month=202101&end-month=202102", BAD, status=400
    ),
    Statement(
        "`month` with one bound: the bound is ignored",
        f"{STAT}?month=202101&end-month=202101",
        {"response": [PRESENT]},
        verdict="as the product",
        why="with `JANSSEN_SHAPE=source`",
        settings={"janssen_shape": "source"},
    ),
    Statement(
        "An answer is cached for one hour", f"{STAT}?month=202101", JANUARY, headers={"Cache-Control": "max-age=36"}
    ),
    Statement(
        "A cached answer is not refreshed within the hour",
        "",
        verdict="differs",
        why="an answer without data, or of stale data, lives 10 s: a new month would look empty for an hour",
        proof="tests/api/cache/test_formats.py::test_an_answer_without_a_month_ends_after_ten_seconds_with_the_store_away",
    ),
    Statement(
        "The sample of `jsonmonth`: an array with `month`, `montly_active_users`, `token_count_per_granttype`",
        f"{STAT}?month=202108%20202109&format=jsonmonth",
        FLAT,
    ),
    Statement(
        "`montly_active_users` is the only field of users in the sample",
        f"{STAT}?month=202108&format=jsonmonth",
        [{"montly_active_users": 5, "monthly_active_users": 5}],
        verdict="differs",
        why="the correct spelling stands beside the misspelt one",
    ),
    Statement(
        "`jsonmonth` as a map, JSON as a list",
        f"{STAT}?month=202108&format=jsonmonth",
        {"response": {"202108": {"month": "202108"}}},
        verdict="as the product",
        why="with `JANSSEN_SHAPE=source`",
        settings={"janssen_shape": "source"},
    ),
    Statement(
        "Active users are counted by HyperLogLog",
        "",
        verdict="differs",
        why="a count up to `EXACT_UP_TO` is exact",
        proof=ORACLE,
    ),
    Statement(
        "Ten servers are united to one number",
        f"{STAT}?month=202303",
        {"response": {"202303": {"monthly_active_users": 100}}},
        world="servers",
    ),
    Statement(
        "A sketch has 20,483 bytes (log2m=15, regwidth=5)",
        "",
        verdict="differs",
        why="sketches are Redis's, 4 or 16 of 12 KB each; the error is 0.41 or 0.20 % instead of 0.57 %",
        proof="tests/api/dialects/own/test_answers.py::test_estimates_have_their_error",
    ),
    Statement(
        "Active users are returned per month as YYYYMM",
        f"{STAT}?month=202108%20202109",
        {"response": {"202108": {"monthly_active_users": 5}, "202109": {"monthly_active_users": 7}}},
    ),
    Statement("The sample without `format`: a map by month under `response`", f"{STAT}?month=202101", JANUARY),
    Statement(
        "The health check is at `/sys/health-check`", "/jans-auth/sys/health-check", {"status": "running"}, token=None
    ),
    Statement(
        'The health check answers `{"status": "running", "db_status":"online"}`',
        "/jans-auth/sys/health-check",
        {"status": "running", "db_status": "online"},
        token=None,
    ),
    Statement(
        "`curl -k https://janssen-host-name/jans-auth/sys/health-check` needs no token",
        "/jans-auth/sys/health-check",
        {"db_status": "online"},
        token=None,
    ),
    Statement(
        "The health check takes `POST`",
        "/jans-auth/sys/health-check",
        {"db_status": "online"},
        verdict="as the product",
        why="the document names no method",
        token=None,
        form="",
    ),
    Statement(
        "Token Issued counts per grant type",
        f"{STAT}?month=202012",
        {"response": {"202012": {"token_count_per_granttype": PRESENT}}},
    ),
    Statement("The sample of Token Issued, all figures of both months", f"{STAT}?month=202101%20202012", SAMPLE),
    *(grant_row(grant) for grant in MONTHS["202101"]["token_count_per_granttype"]),
    Statement(
        "Each grant has all four token types",
        f"{STAT}?month=202201",
        {"response": {"202201": {"token_count_per_granttype": {"password": KINDS}}}},
    ),
    Statement("`USER_AUTHORIZATION` with `isSuccess=true` is a successful authentication", "", proof=AUDIT),
    Statement("`USER_AUTHORIZATION` with `isSuccess=false` is a failed authentication", "", proof=AUDIT),
    Statement("Audit logs have client registrations", "", proof=AUDIT),
    Statement("Audit logs have client updates", "", proof=AUDIT),
]
