"""The routes in the shapes of Janssen, Gluu, Auth0 and LinOTP for `/openapi.json`, in their documented shape.

A `…_SHAPE=source` setting changes answers to those of the product's real server, which have no schema here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from api.dialects import auth0, gluu, janssen
from api.dialects.own.answers import Count

TAGS: Final = ("janssen", "gluu", "auth0", "linotp")
MONTH: Final = {"type": "string", "pattern": "^[0-9]{6}$", "examples": ["202610"]}
DAY: Final = {"type": "string", "format": "date"}
COMPACT_DAY: Final = {"type": "string", "pattern": auth0.PATTERN.pattern, "examples": ["20261120"]}

JsonSchema = dict[str, Any]

TokensByGrant = Annotated[
    dict[str, dict[str, Count]],
    Meta(description="By grant type, the issued refresh_token, id_token, access_token and uma_token."),
]


class StatMonth(Struct):
    """Figures of one month."""

    monthly_active_users: Count
    token_count_per_granttype: TokensByGrant


class Stat(Struct):
    """Figures by month (`yyyyMM`). Months without data are left out."""

    response: dict[str, StatMonth]


class StatFlatMonth(Struct):
    """One month of `format=jsonmonth`. The product's documentation misspells a member; both spellings are there."""

    month: str
    montly_active_users: Count
    monthly_active_users: Count
    token_count_per_granttype: TokensByGrant


class StatError(Struct):
    """An error of the statistics of Janssen and Gluu."""

    error: str
    error_description: str


class HealthCheck(Struct):
    """The state of the service and of its store."""

    status: str
    db_status: Annotated[str, Meta(description="`online` or `offline`.")]


class DailyStats(Struct):
    """One day."""

    date: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    logins: Count
    signups: Count
    leaked_passwords: Count
    updated_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    created_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Auth0Error(Struct, rename="camel"):
    """An error of the Management API."""

    status_code: int
    error: str
    message: str
    error_code: str | UnsetType = UNSET


class LinotpError(Struct):
    """The reason of a failed request."""

    code: int
    message: str


class LinotpResult(Struct):
    """`value` if `status` is true, else `error`."""

    status: bool
    value: Annotated[
        Any, Meta(description="`show`: rows; `maximum`, `period`: counts by realm and status; deletes: a number.")
    ] = UNSET
    error: LinotpError | UnsetType = UNSET


class LinotpAnswer(Struct):
    """LinOTP's envelope. A failed request has the status 200 too, unless `httperror` names another."""

    version: str
    jsonrpc: str
    result: LinotpResult
    id: int


ANSWERS: Final = [
    *(Stat, StatFlatMonth, StatError, HealthCheck),
    *(DailyStats, Auth0Error),
    LinotpAnswer,
]


def _ref(answer: type[Struct]) -> JsonSchema:
    return {"$ref": f"#/components/schemas/{answer.__name__}"}


def _json(description: str, schema: JsonSchema) -> JsonSchema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _stat(product: str, path: str, parameters: Mapping[str, tuple[str, JsonSchema]], answer: JsonSchema) -> JsonSchema:
    summary = f"Monthly active users and issued tokens, as {product.capitalize()} answers"
    answers = _json("The months. With `format=openmetrics` the answer is Prometheus text.", answer)
    answers["content"]["text/plain"] = {"schema": {"type": "string"}}
    errors: dict[int | str, str] = {
        400: "An invalid month.",
        401: "No valid token.",
        503: "The figures cannot be read.",
    }
    return {
        path: _get_and_post(f"{product}_stat", summary, product, parameters, answers, errors, StatError),
        f"{path.partition('/restv1')[0]}/sys/health-check": {
            method: {
                "operationId": operation,
                "summary": "Whether the service and its store are up",
                "tags": [product],
                "security": [],
                "responses": {"200": _json("Always, even if the store is away.", _ref(HealthCheck))},
            }
            for method, operation in (
                ("get", f"{product}_health_check"),
                ("post", f"{product}_health_check_by_post"),
            )
        },
    }


def _get_and_post(
    operation: str,
    summary: str,
    product: str,
    parameters: Mapping[str, tuple[str, JsonSchema]],
    answer: JsonSchema,
    errors: Mapping[int | str, str],
    error: type[Struct],
) -> JsonSchema:
    """A question in the query of a GET, or in the form of a POST."""
    shared = {
        "summary": summary,
        "tags": [product],
        "responses": {"200": answer, **{str(status): _json(text, _ref(error)) for status, text in errors.items()}},
    }
    form = {name: {"description": text, **schema} for name, (text, schema) in parameters.items()}
    described: JsonSchema = {
        "get": {
            "operationId": operation,
            "parameters": [_query(name, *arguments) for name, arguments in parameters.items()],
        },
        "post": {
            "operationId": f"{operation}_by_form",
            "requestBody": {
                "required": True,
                "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": form}}},
            },
        },
    }
    return {method: described[method] | shared for method in ("get", "post")}


def _query(name: str, description: str, schema: JsonSchema) -> JsonSchema:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _auth0(path: str, operation: str, summary: str, answer: JsonSchema, *parameters: JsonSchema) -> JsonSchema:
    return {
        f"{auth0.PREFIX}/{path}": {
            "get": {
                "operationId": f"auth0_{operation}",
                "summary": summary,
                "tags": ["auth0"],
                "parameters": list(parameters),
                "responses": {
                    "200": _json("The figures.", answer),
                    **{str(status): _json("An error.", _ref(Auth0Error)) for status in (400, 401, 403, 429, 503)},
                },
            }
        }
    }


_TEXT: Final[JsonSchema] = {"type": "string"}
_REALMS: Final = ("`realm1,realm2`; by default, or with `*`, all realms.", _TEXT)
_STATUS: Final = ("One or several statuses, separated by commas; `*` is every status in `show` and in deletes.", _TEXT)
_HTTP_ERROR: Final = (
    "The HTTP status of errors, which are a 200 otherwise; 500 for one that is no status.",
    {"type": "integer", "minimum": 400, "maximum": 599},
)
_REPORTING: Final[dict[str, tuple[str, dict[str, tuple[str, JsonSchema]]]]] = {
    "show": (
        "The rows of the reporting table",
        {
            "date": ("Rows from this day on.", DAY),
            "page": ("A page, from 1; without it everything.", {"type": "integer", "minimum": 0}),
            "pagesize": ("Rows per page, 50 by default.", {"type": "integer", "minimum": 1}),
            "sortby": ("A column, by default the time.", _TEXT),
            "sortdir": ("`asc` or `desc`.", {"type": "string", "enum": ["asc", "desc"]}),
            "outform": ("`csv` for a file.", {"type": "string", "enum": ["json", "csv"]}),
        },
    ),
    "maximum": ("The highest count of all time, by realm and status", {}),
    "period": (
        "The highest count of a period, by realm and status",
        {"from": ("The first day.", DAY), "to": ("The day after the last one.", DAY)},
    ),
    "delete_all": ("Deletes rows and returns their number", {}),
    "delete_before": ("Deletes rows before a day and returns their number", {"date": ("The day.", DAY)}),
}
_SESSION: Final = {
    "getsession": "Opens a session: sets the cookie `admin_session`",
    "dropsession": "Ends a session",
}


def _linotp() -> JsonSchema:
    answer = _json("The result, or an error.", _ref(LinotpAnswer))
    errors: dict[int | str, str] = {
        401: "No valid token or session.",
        503: "The inventory cannot be read.",
        "default": "With `httperror`: a page with the error.",
    }
    paths = {}
    for action, (summary, own) in _REPORTING.items():
        described = own | {"realms": _REALMS, "status": _STATUS, "httperror": _HTTP_ERROR}
        found = dict(answer)
        if action == "show":
            found["content"] = answer["content"] | {"text/csv": {"schema": _TEXT}}
        paths[f"/reporting/{action}"] = _get_and_post(
            f"linotp_{action}", summary, "linotp", described, found, errors, LinotpAnswer
        )
        for operation in paths[f"/reporting/{action}"].values():
            for status in map(str, errors):
                operation["responses"][status]["content"]["text/html"] = {"schema": _TEXT}
    for action, summary in _SESSION.items():
        session = {"session": ("The session's value.", _TEXT)} if action == "dropsession" else {}
        paths[f"/admin/{action}"] = _get_and_post(
            f"linotp_{action}", summary, "linotp", session, answer, errors, LinotpAnswer
        )
        if action == "dropsession":
            for operation in paths[f"/admin/{action}"].values():
                operation["security"] = []
    return paths


_MONTHS: Final = ("One month or several, separated by spaces.", MONTH | {"pattern": "^[0-9]{6}( [0-9]{6})*$"})
PATHS: Final[JsonSchema] = {
    **_stat(
        "janssen",
        f"{janssen.PREFIX}/restv1/internal/stat",
        {
            "month": _MONTHS,
            "start-month": ("The first month of a range; not with `month`.", MONTH),
            "end-month": ("The last month of the range, included.", MONTH),
            "format": ("By default JSON by month.", {"type": "string", "enum": ["json", "jsonmonth", "openmetrics"]}),
        },
        {"anyOf": [_ref(Stat), {"type": "array", "items": _ref(StatFlatMonth)}]},
    ),
    **_stat(
        "gluu",
        f"{gluu.PREFIX}/restv1/internal/stat",
        {"month": _MONTHS, "format": ("By default JSON.", {"type": "string", "enum": ["json", "openmetrics"]})},
        _ref(Stat),
    ),
    **_auth0("active-users", "active_users", "Users of the last 30 days", {"type": "integer", "minimum": 0}),
    **_auth0(
        "daily",
        "daily",
        "Logins, sign-ups and leaked passwords per day",
        {"type": "array", "items": _ref(DailyStats)},
        _query("from", "The first day, `YYYYMMDD`.", COMPACT_DAY),
        _query("to", "The last day, `YYYYMMDD`.", COMPACT_DAY),
    ),
    **_linotp(),
}
