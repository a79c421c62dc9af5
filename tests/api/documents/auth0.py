"""Auth0's article on monitoring tenant quota usage and statistics."""

from __future__ import annotations

from typing import Final

from tests.api.documents.statement import PRESENT, Statement

ACTIVE: Final = "/api/v2/stats/active-users"
DAILY: Final = "/api/v2/stats/daily"
RANGE: Final = f"{DAILY}?from=20261117&to=20261119"
STREAMS: Final = "tests/schemas/adapters/test_auth0_logs.py::test_every_content_format_of_a_stream_is_read"
M2M: Final = "tests/api/dialects/own/test_m2m.py::test_usage_is_returned_per_client_against_its_quota_with_a_projection"

STATEMENTS: Final = [
    Statement("`GET /api/v2/stats/active-users`", ACTIVE, 4, headers={"Content-Type": "application/json"}),
    Statement("It returns the number of active users", ACTIVE, 4),
    Statement("`GET /api/v2/stats/daily`", RANGE, [PRESENT, PRESENT], headers={"Content-Type": "application/json"}),
    Statement(
        "It returns the logins of each day",
        RANGE,
        [{"date": "2026-11-17T00:00:00.000Z", "logins": 5}, {"date": "2026-11-19T00:00:00.000Z", "logins": 10}],
    ),
    Statement("It returns the sign-ups of each day", RANGE, [{"signups": 2}, {"signups": 1}]),
    Statement(
        "It returns the breached-password detections of each day",
        RANGE,
        [{"leaked_passwords": 1}, {"leaked_passwords": 0}],
    ),
    Statement(
        "Each day of the range",
        RANGE,
        [PRESENT, PRESENT, PRESENT],
        verdict="as the product",
        why="days without data are left out; with `AUTH0_ZERO_FILL=true` they are zeros",
        settings={"auth0_zero_fill": True},
    ),
    Statement("A range of dates", f"{DAILY}?from=20261118&to=20261119", [{"logins": 10}]),
    Statement(
        "Breached-password detection needs a subscription",
        RANGE,
        [PRESENT, PRESENT],
        verdict="differs",
        why="no subscription is needed",
    ),
    Statement(
        "Authentication is required", ACTIVE, {"statusCode": 401, "error": "Unauthorized"}, status=401, token=None
    ),
    Statement(
        "The internal usage report (`/api/reports`)",
        "/api/reports",
        {"status": 404},
        verdict="differs",
        why="it is not served; `authtally report` and `/v1` answer instead",
        status=404,
    ),
    Statement("Log streams export the logs", "", proof=STREAMS),
    Statement(
        "Token issuance of machines is found in the logs",
        "",
        proof="tests/schemas/adapters/test_auth0_logs.py::test_log_events_become_ours",
    ),
    Statement("Reports track usage against limits", "", proof=M2M),
    Statement(
        "Reports are made from the streams",
        "",
        proof="tests/deploy/cli/test_report.py::test_a_question_is_shown_as_a_table",
    ),
]
