"""`/openapi.json`: the own surface and ingest as an OpenAPI 3.1 document."""

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
from api.dialects.own import filters as own_filters
from api.dialects.own.openapi_schemas import ref
from api.dialects.own.series import Counter
from api.dialects.own.unattributed import FAILED
from api.ingest import openapi as ingest_openapi

PATH: Final = "/openapi.json"
DATE: Final = {"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
LABEL: Final = {"type": "string", "minLength": 1, "maxLength": 256}

Described = dict[str, Any]

PARAMETERS: Final[dict[str, tuple[str, Described]]] = {
    "from": ("First day, `YYYY-MM-DD`. By default the range is the 30 days up to `to`.", DATE),
    "to": ("Last day, included. Default: today.", DATE),
    "date": ("The day of the figures. Default: today.", DATE),
    "month": (
        "A month, `YYYY-MM`. Default: the current month.",
        {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"},
    ),
    "realm": ("Only this realm. An unknown realm has zero.", LABEL),
    "client_id": ("Only clients with this id, in `realm` or in all realms that the bearer sees.", LABEL),
    "node": ("Only this node. Not with `realm` or `client_id`.", LABEL),
}
BY_CLIENT: Final = (
    " With a filter or grouping by client the answer has `unattributed`; in CSV it is a last row with the days of the "
    "whole answer and all other columns blank."
)
REFUSALS: Final = {
    "400": "A parameter is invalid, unknown, or needs data that is not kept; `parameter` names it.",
    "401": "The bearer token is missing or invalid.",
    "403": "The token lacks the scope, or is limited to realms although this needs all of them.",
    "500": "A defect; the log has the traceback.",
    "503": "The figures cannot be read, and there is no older answer. `Retry-After` says when to try again.",
}
HEADERS: Final = {
    "Age": ("Seconds since the answer was computed.", {"type": "integer"}),
    "ETag": (
        "Identifies the content: sent as `If-None-Match` it gives 304 while the content is unchanged.",
        {"type": "string"},
    ),
    "Cache-Control": ("For how long the answer may be reused.", {"type": "string"}),
    "Cache-Status": (
        "Only on an expired answer that is served because the ledger is unreachable (RFC 9211).",
        {"type": "string"},
    ),
}


def document(*, ingest: bool = False) -> Described:
    """The whole document; `ingest` adds the ingest routes."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "authtally",
            "version": _version(),
            "summary": "Statistics of identity systems.",
            "description": "Days and months are in the deployment's time zone, which every answer names. "
            "A bearer limited to realms sees only these; their union is its total.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": "statistics"}, {"name": "operations"}, *([{"name": "ingest"}] if ingest else [])],
        "paths": {**_paths(), **(ingest_openapi.PATHS if ingest else {})},
        "components": {
            "securitySchemes": {
                **(ingest_openapi.SECURITY_SCHEMES if ingest else {}),
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "With the scope `stats:read`; `/v1/metrics` needs `metrics:read`, "
                    "and sending events needs `events:write`.",
                },
            },
            "headers": {name: {"description": text, "schema": schema} for name, (text, schema) in HEADERS.items()},
            "parameters": {name: _parameter(name, text, schema) for name, (text, schema) in PARAMETERS.items()}
            | {
                "bom": _parameter(
                    "bom", "1: CSV begins with a byte order mark, so that spreadsheets read it as UTF-8.", _choice("01")
                ),
                "format": _parameter(
                    "format", "The format of the answer; overrides `Accept`.", _choice(("json", "csv"))
                ),
            },
            "responses": {
                status: {
                    "description": text,
                    "content": {"application/problem+json": {"schema": ref("Problem")}},
                }
                for status, text in REFUSALS.items()
            },
            "schemas": {**openapi_schemas.SCHEMAS, **(ingest_openapi.SCHEMAS if ingest else {})},
        },
    }


def _paths() -> Described:
    filters = ["from", "to", *PARAMETERS.keys() & {"realm", "client_id", "node"}]
    grouped = _choice(active_users.GROUPINGS)
    paths = {
        active_users.PATH: _get(
            "active_users",
            "Distinct active users",
            "Per whole day, ISO week or month, or for the whole range. Small numbers are exact; others have a "
            "relative standard error. At most 400 days by day and week.",
            "ActiveUsers",
            filters,
            [
                _parameter("granularity", "The period of one item.", _choice(active_users.GRANULARITIES, "day")),
                _parameter(
                    "trailing",
                    "With the granularity day: each item has the users of this many days up to its own. The requested "
                    f"days times this number are at most {window.MAX_UNITED_DAYS}.",
                    {"type": "integer", "minimum": 1, "maximum": window.MAX_ROLLING_DAYS, "default": 1},
                ),
                _parameter("group_by", "One item per label; the dimension must be kept (USERS_BY).", grouped),
                _limit(active_users.MAX_LIMIT),
            ],
        ),
        overview.PATH: _get(
            "overview",
            "The figures of one day, compared with the previous ones",
            "Week and month end at the day and are compared with equally many days of the previous one. A filter must "
            "be kept for users and for counters (USERS_BY, COUNTS_BY). With `client_id` the failed logins are "
            "accompanied by `unattributed`; in CSV it is a figure of its own.",
            "Overview",
            ["date", *own_filters.PARAMETERS],
        ),
        labels.PATH: _get(
            "labels",
            "Known realms, clients and nodes",
            "The labels that the bearer sees, sorted; nodes only for bearers of all realms.",
            "Labels",
            ["realm"],
            [
                _parameter("dimension", "Only labels of this kind.", _choice(labels.DIMENSIONS)),
                _limit(labels.MAX_LIMIT, "Maximum number of labels; `left_out` counts the others."),
            ],
        ),
        m2m.PATH: _get(
            "m2m",
            "Machine-to-machine tokens of a month against quotas",
            "Access tokens of the client_credentials grant, by client.",
            "M2m",
            ["month", "realm"],
            [_limit(series.MAX_ROWS)],
        ),
        pipeline.PATH: _get(
            "pipeline",
            "Position, lag and totals of every partition",
            "consumed = counted + duplicates + ignored + dead. Invalid times and numbers of the ledger are null; the "
            "rest of the answer stays. Not for bearers limited to realms.",
            "Pipeline",
            [],
        ),
    }
    paths[today.PATH] = _live()
    one = "|".join(otp_tokens.STATUSES)
    paths[otp_tokens.PATH] = _get(
        "otp_tokens",
        "One-time-password tokens by realm and status",
        "The present counts; with `from` or `to` the count at the end of each day and the maximum on it, up to 400 "
        "days. Tokens without a realm are listed under `/:no realm:/`. Days before a realm's first token and deleted "
        "days are omitted.",
        "OtpTokens",
        ["from", "to", "realm"],
        [
            _parameter(
                "status",
                "Only these statuses, separated by commas; a pair in either order.",
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
            "summary": "Today's figures, streamed as they change",
            "description": "Server-sent events: `figures` at once and at every change, `unavailable` with `{}` while "
            "they cannot be read, comments in between. The stream ends when the bearer's token expires. The status is "
            "also 503 if the process already serves its maximum number of streams.",
            "tags": ["statistics"],
            "responses": {
                "200": {
                    "description": "An endless stream; the data of `figures` is a `Live`.",
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
        f"By day or month, grouped by any of {', '.join(groupings)}, separated by commas; at most one of them a label."
        + (BY_CLIENT if FAILED in counter.counters else ""),
        name.capitalize(),
        filters,
        [
            _parameter("granularity", "The period of one item.", _choice(series.GRANULARITIES, "day")),
            _parameter(
                "group_by", "One item per label or word; the label's dimension must be kept (COUNTS_BY).", listed
            ),
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
    parameters = [{"$ref": f"#/components/parameters/{name}"} for name in (*sorted(shared), "bom", "format")]
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "description": description,
            "tags": ["statistics"],
            "parameters": [*parameters, *own],
            "responses": {
                "200": {
                    "description": "The figures; the CSV has their items.",
                    "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS},
                    "content": {
                        "application/json": {"schema": ref(schema)},
                        "text/csv": {"schema": {"type": "string"}},
                    },
                },
                "304": {"description": "The content that `If-None-Match` names is unchanged."},
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
    most: int, description: str = "Maximum number of groups, largest first; `left_out` counts the others."
) -> Described:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": active_users.LIMIT}
    return _parameter("limit", description, schema)


def _version() -> str:
    try:
        return version("authtally")
    except PackageNotFoundError:
        return "0"
