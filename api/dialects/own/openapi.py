"""`/openapi.json`: what the own surface takes and answers, as OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from api.dialects.own import (
    active_users,
    gauges,
    labels,
    m2m,
    openapi_schemas,
    otp_tokens,
    overview,
    pipeline,
    series,
    today,
    window,
)
from api.dialects.own import (
    filters as subjects,
)
from api.dialects.own.openapi_schemas import ref
from api.dialects.own.series import Counter
from api.dialects.own.unattributed import FAILED
from api.ingest import openapi as ways_in

PATH: Final = "/openapi.json"
DATE: Final = {"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
LABEL: Final = {"type": "string", "minLength": 1, "maxLength": 256}

Described = dict[str, Any]

PARAMETERS: Final[dict[str, tuple[str, Described]]] = {
    "from": ("First day, `YYYY-MM-DD`. Without it the 30 days up to `to`.", DATE),
    "to": ("Last day, included. Without it today.", DATE),
    "date": ("The day that the figures are of. Without it today.", DATE),
    "month": (
        "A month, `YYYY-MM`. Without it the present one.",
        {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"},
    ),
    "realm": ("Only this realm. One that is unknown has zero.", LABEL),
    "client_id": ("Only clients of this id: of `realm`, or else of every realm that the bearer sees, united.", LABEL),
    "node": ("Only this node. Not with `realm` or `client_id`.", LABEL),
}
BY_CLIENT: Final = (
    " By client the answer has `unattributed`; as CSV a last row has it, with the days of the whole answer and "
    "all other columns blank."
)
REFUSALS: Final = {
    "400": "A parameter is wrong, unknown, or asks for what is not kept; `parameter` names it.",
    "401": "No bearer token, or one that is not good.",
    "403": "The token lacks the scope, or is limited to realms where this needs all.",
    "500": "A defect; the log has it.",
    "503": "The figures cannot be read, and no older answer is at hand. `Retry-After` says when to ask again.",
}
HEADERS: Final = {
    "Age": ("Seconds since the answer was computed.", {"type": "integer"}),
    "ETag": (
        "Names the content: sent back as `If-None-Match` it gives 304 while that is unchanged.",
        {"type": "string"},
    ),
    "Cache-Control": ("For how long the answer holds.", {"type": "string"}),
    "Cache-Status": (
        "Only on an answer that outlived its time because the ledger is away (RFC 9211).",
        {"type": "string"},
    ),
}


def document(*, ingest: bool = False) -> Described:
    """The whole document; with `ingest` the ways in are served too."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "authtally",
            "version": _version(),
            "summary": "Statistics of identity systems.",
            "description": "Days and months are those of the deployment's time zone, which every answer names. "
            "A bearer that is limited to realms sees those, and their union as everything.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": "statistics"}, {"name": "operations"}, *([{"name": "ingest"}] if ingest else [])],
        "paths": {**_paths(), **(ways_in.PATHS if ingest else {})},
        "components": {
            "securitySchemes": {
                **(ways_in.SECURITY_SCHEMES if ingest else {}),
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "With the scope `stats:read`; `/v1/metrics` asks for `metrics:read`, "
                    "and what sends events for `events:write`.",
                },
            },
            "headers": {name: {"description": text, "schema": schema} for name, (text, schema) in HEADERS.items()},
            "parameters": {name: _parameter(name, text, schema) for name, (text, schema) in PARAMETERS.items()}
            | {"format": _parameter("format", "How the answer looks; wins over `Accept`.", _choice(("json", "csv")))},
            "responses": {
                status: {
                    "description": text,
                    "content": {"application/problem+json": {"schema": ref("Problem")}},
                }
                for status, text in REFUSALS.items()
            },
            "schemas": {**openapi_schemas.SCHEMAS, **(ways_in.SCHEMAS if ingest else {})},
        },
    }


def _paths() -> Described:
    filters = ["from", "to", *PARAMETERS.keys() & {"realm", "client_id", "node"}]
    grouped = _choice(active_users.GROUPINGS)
    paths = {
        active_users.PATH: _get(
            "active_users",
            "Distinct active users",
            "By day, ISO week or month, each whole, or of the whole range as one. Exact while few, else with its "
            "relative standard error. At most 400 days by day and week.",
            "ActiveUsers",
            filters,
            [
                _parameter("granularity", "What one item is.", _choice(active_users.GRANULARITIES, "day")),
                _parameter(
                    "trailing",
                    "With the granularity day: each item is the users of so many days up to its own. Of the days "
                    f"asked for times this, at most {window.MAX_UNITED_DAYS}.",
                    {"type": "integer", "minimum": 1, "maximum": window.MAX_ROLLING_DAYS, "default": 1},
                ),
                _parameter("group_by", "An item per label; what it tells apart must be kept (USERS_BY).", grouped),
                _limit(active_users.MAX_LIMIT),
            ],
        ),
        overview.PATH: _get(
            "overview",
            "The figures of one day, each beside the one before",
            "Week and month are those of the day, up to it, and are compared with as many days of the one before. A "
            "filter must be kept for users and for counters (USERS_BY, COUNTS_BY). By `client_id` there is "
            "`unattributed` beside the failed logins; as CSV it is a figure like them.",
            "Overview",
            ["date", *subjects.PARAMETERS],
        ),
        labels.PATH: _get(
            "labels",
            "Realms, clients and nodes that are known",
            "Those that a bearer sees, in order; nodes only without a limit to realms.",
            "Labels",
            ["realm"],
            [
                _parameter("dimension", "Only labels of this kind.", _choice(labels.DIMENSIONS)),
                _limit(labels.MAX_LIMIT, "Most labels told; `left_out` says how many more there are."),
            ],
        ),
        m2m.PATH: _get(
            "m2m",
            "Machine-to-machine tokens of a month against quotas",
            "Access tokens of the client_credentials grant, per client.",
            "M2m",
            ["month", "realm"],
            [_limit(series.MAX_ROWS)],
        ),
        pipeline.PATH: _get(
            "pipeline",
            "How far each partition is counted, and that nothing is missing in between",
            "consumed = counted + duplicates + ignored + dead. A time that cannot be a date and a number that cannot "
            "be a count are null; the rest of the answer stays. Not for bearers that are limited to realms.",
            "Pipeline",
            [],
        ),
    }
    paths[today.PATH] = _live()
    one = "|".join(otp_tokens.STATUSES)
    paths[otp_tokens.PATH] = _get(
        "otp_tokens",
        "One-time-password tokens by realm and status",
        "As they are now; with `from` or `to` at the end of each day and at most on it, up to 400 days. Tokens in no "
        "realm stand under `/:no realm:/`. Days before a realm's first token, and deleted ones, are left out.",
        "OtpTokens",
        ["from", "to", "realm"],
        [
            _parameter(
                "status",
                "Only these, separated by commas; a pair in either order.",
                {"type": "string", "pattern": f"^({one})(,({one}))*$", "examples": ["total,active&assigned"]},
            )
        ],
    )
    for counter in series.COUNTERS:
        paths[counter.path] = _series(counter, filters)
    paths[gauges.PATH] = {
        "get": {
            "operationId": "metrics",
            "summary": "Today's and this month's figures as Prometheus gauges",
            "tags": ["operations"],
            "responses": {
                "200": {
                    "description": "Prometheus text format 0.0.4.",
                    "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS},
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                "304": {"description": "Unchanged."},
                **_refusals(),
            },
        }
    }
    paths[PATH] = {
        "get": {
            "operationId": "openapi",
            "summary": "This document",
            "tags": ["operations"],
            "security": [],
            "responses": {
                "200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}
            },
        }
    }
    return paths


def _live() -> Described:
    return {
        "get": {
            "operationId": "live",
            "summary": "Today's figures, as they change",
            "description": "Server-sent events: `figures` at once and whenever one of them changes, `unavailable` with "
            "`{}` while they cannot be read, comments in between. The stream ends with the bearer's token. 503 also "
            "where as many listen as a process serves.",
            "tags": ["statistics"],
            "responses": {
                "200": {
                    "description": "A stream without an end; the data of `figures` is a `Live`.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                **_refusals(),
            },
        }
    }


def _series(counter: Counter, filters: Sequence[str]) -> Described:
    name = counter.path.rpartition("/")[2]
    groupings = ("realm", "client_id", "node", *counter.dimensions)
    one = "|".join(groupings)
    listed = {"type": "string", "pattern": f"^({one})(,({one}))*$", "examples": [counter.dimensions and groupings[-1]]}
    return _get(
        name,
        f"Counters of {name}",
        f"By day or month; by any of {', '.join(groupings)}, separated by commas, of labels one at most."
        + (BY_CLIENT if FAILED in counter.counters else ""),
        name.capitalize(),
        filters,
        [
            _parameter("granularity", "What one item is.", _choice(series.GRANULARITIES, "day")),
            _parameter("group_by", "Items per label or word; labels must be kept (COUNTS_BY).", listed),
            _limit(series.MAX_ROWS),
        ],
    )


def _get(
    operation: str,
    summary: str,
    description: str,
    schema: str,
    shared: Sequence[str],
    own: Sequence[Described] = (),
) -> Described:
    parameters = [{"$ref": f"#/components/parameters/{name}"} for name in (*sorted(shared), "format")]
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "description": description,
            "tags": ["statistics"],
            "parameters": [*parameters, *own],
            "responses": {
                "200": {
                    "description": "The figures; as CSV, their items.",
                    "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS},
                    "content": {
                        "application/json": {"schema": ref(schema)},
                        "text/csv": {"schema": {"type": "string"}},
                    },
                },
                "304": {"description": "Unchanged since the answer that `If-None-Match` names."},
                **_refusals(),
            },
        }
    }


def _refusals() -> Described:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in REFUSALS}


def _parameter(name: str, description: str, schema: Mapping[str, Any]) -> Described:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": dict(schema)}


def _choice(choices: Sequence[str], default: str | None = None) -> Described:
    return {"type": "string", "enum": list(choices)} | ({} if default is None else {"default": default})


def _limit(
    most: int, description: str = "Most groups told, the largest first; `left_out` says how many more there are."
) -> Described:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": active_users.LIMIT}
    return _parameter("limit", description, schema)


def _version() -> str:
    try:
        return version("authtally")
    except PackageNotFoundError:
        return "0"
