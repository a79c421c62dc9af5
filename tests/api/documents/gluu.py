"""Gluu Server 4: Active User Metrics."""

from __future__ import annotations

from typing import Any, Final

from tests.api.documents.statement import Statement

STAT: Final = "/oxauth/restv1/internal/stat"
METRICS: Final = f"{STAT}?month=202111&format=openmetrics"
PLAIN: Final = "text/plain; version=0.0.4"
BREAK: Final = "without the document's line break after the comma, which parsers refuse"

FAMILIES: Final = {
    "refresh_token": "Refresh Token",
    "id_token": "Id Token",
    "monthly_active_users": "Monthly active users",
    "access_token": "Access Token",
    "uma_token": "UMA Token",
}
SAMPLES: Final = [
    'refresh_token{month="202111",grantType="authorization_code",} 0.0',
    'refresh_token{month="202111",grantType="client_credentials",} 0.0',
    'id_token{month="202111",grantType="authorization_code",} 144.0',
    'id_token{month="202111",grantType="client_credentials",} 0.0',
    'monthly_active_users{month="202111",} 2.0',
    'access_token{month="202111",grantType="authorization_code",} 144.0',
    'access_token{month="202111",grantType="client_credentials",} 10.0',
    'uma_token{month="202111",grantType="authorization_code",} 0.0',
    'uma_token{month="202111",grantType="client_credentials",} 0.0',
]
MONTH: Final[dict[str, Any]] = {"response": {"202111": {"monthly_active_users": 2}}}

STATEMENTS: Final = [
    Statement(
        "`statWebServiceIntervalLimitInSeconds` sets the interval",
        f"{STAT}?month=202111",
        MONTH,
        settings={"gluu_interval_s": 5000},
        headers={"Cache-Control": "max-age=5"},
    ),
    Statement("The interval is 60 s by default", f"{STAT}?month=202111", MONTH, headers={"Cache-Control": "max-age=6"}),
    Statement(
        "A second call within the interval is refused with 403",
        "",
        verdict="as the product",
        why="with `GLUU_SHAPE=source`; the documented shape repeats its answer",
        proof="tests/api/dialects/test_gluu.py::test_the_source_shape_refuses_a_second_call_in_the_interval",
    ),
    Statement("The client has the scope `jans_stat`", f"{STAT}?month=202111", MONTH),
    Statement(
        "A client without the scope",
        f"{STAT}?month=202111",
        {"error": "access_denied"},
        verdict="as the product",
        why="401, which the document does not say",
        status=401,
        token="other",
    ),
    Statement(
        "The client gets its token by `client_credentials`, as a bearer token",
        "",
        proof="tests/api/auth/test_access.py::test_an_opaque_token_is_introspected_and_remembered_for_a_minute",
    ),
    Statement(
        "`/oxauth/restv1/token` issues the token",
        "/oxauth/restv1/token",
        {"error": "not_found"},
        verdict="differs",
        why="the Gluu Server issues it, authtally only verifies it",
        status=404,
    ),
    Statement(
        "`GET …/stat?month=YEARMONTH&format=openmetrics` with `Authorization: Bearer <access_token>`",
        METRICS,
        headers={"Content-Type": PLAIN},
        says=("monthly_active_users",),
    ),
    *(
        Statement(
            f"`# HELP {name} {text}` and `# TYPE {name} counter`",
            METRICS,
            says=(f"# HELP {name} {text}\n# TYPE {name} counter\n{name}{{",),
        )
        for name, text in FAMILIES.items()
    ),
    *(Statement(f"`{line}`", METRICS, verdict="differs", why=BREAK, says=(f"\n{line}\n",)) for line in SAMPLES),
    Statement(
        "The families' order",
        METRICS,
        verdict="differs",
        why="users come first; the format gives the order no meaning",
        says=("# HELP monthly_active_users",),
    ),
    Statement(
        "Without `format`: JSON by month",
        f"{STAT}?month=202111",
        MONTH,
        verdict="as the product",
        why="the document shows metrics only",
    ),
]
