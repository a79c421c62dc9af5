"""`/openapi.json`: every route in OpenAPI 3.1, generated from the parameters and answers of the endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from inspect import cleandoc
from typing import Any, Final

import msgspec
import orjson

from api.dialects.own import (
    active_users,
    gauges,
    labels,
    lifecycle,
    m2m,
    openapi_products,
    openapi_regions,
    otp_tokens,
    overview,
    pipeline,
    region_states,
    retention,
    series,
    today,
    window,
)
from api.dialects.own import filters as own_filters
from api.dialects.own.answers import Problem
from api.dialects.own.operation import BOM, FORMAT, Operation
from api.dialects.own.parameters import Parameter
from api.dialects.own.regional import REGION
from api.ingest import openapi as ingest_openapi

PATH: Final = "/openapi.json"
OPERATIONS: Final = (
    active_users.OPERATION,
    overview.OPERATION,
    lifecycle.OPERATION,
    retention.OPERATION,
    labels.OPERATION,
    m2m.OPERATION,
    pipeline.OPERATION,
    region_states.OPERATION,
    otp_tokens.OPERATION,
    *(counter.operation for counter in series.COUNTERS),
)
SHARED: Final = (window.FROM, window.TO, *own_filters.PARAMETERS, REGION, BOM, FORMAT)
"""Parameters of several routes."""

JsonSchema = dict[str, Any]

ERRORS: Final = {
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
BEARER: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "With the scope `stats:read`; `/v1/metrics` needs `metrics:read`, sending events `events:write`, "
    "exports to other regions `sketches:read`, "
    "and the products' routes the scope that their page names.",
}


def document(*, ingest: bool = False, regions: bool = False) -> JsonSchema:
    """The whole document; `ingest` adds the ingest routes, `regions` those for other regions."""
    own = ["statistics", "operations", *(["ingest"] if ingest else []), *([openapi_regions.TAG] if regions else [])]
    tags = [*own, *openapi_products.TAGS]
    paths = {
        **_paths(),
        **(ingest_openapi.PATHS if ingest else {}),
        **(openapi_regions.PATHS if regions else {}),
        **openapi_products.PATHS,
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "authtally",
            "version": _version(),
            "summary": "Statistics of identity systems.",
            "description": "Days and months are in the deployment's time zone, which every answer names. "
            "A bearer limited to realms sees only these; their union is its total. HEAD is answered wherever GET is.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name} for name in tags],
        "paths": _with_examples(paths),
        "components": {
            "securitySchemes": {"bearer": BEARER, **(ingest_openapi.SECURITY_SCHEMES if ingest else {})},
            "headers": {name: {"description": text, "schema": schema} for name, (text, schema) in HEADERS.items()},
            "parameters": {each.name: _parameter(each) for each in SHARED},
            "responses": {
                status: {"description": text, "content": {"application/problem+json": {"schema": ref("Problem")}}}
                for status, text in ERRORS.items()
            },
            "schemas": _schemas(ingest=ingest, regions=regions),
        },
    }


def _schemas(*, ingest: bool, regions: bool) -> JsonSchema:
    """The schemas of all answers, events and types that these refer to, by name."""
    answers = [Problem, today.Live, *(operation.answer for operation in OPERATIONS), *openapi_products.ANSWERS]
    types = [*answers, *(ingest_openapi.TYPES if ingest else []), *(openapi_regions.TYPES if regions else [])]
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in found.values():
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
        # Generators read a boolean schema badly. The refusal of unknown members is of no use to a caller.
        if schema.get("additionalProperties") is False:
            del schema["additionalProperties"]
        for member in schema["properties"].values():
            _complete(member)
    return ingest_openapi.schema_of_native_events(found) if ingest else found


def _complete(schema: JsonSchema) -> None:
    """States the type of an enum, and a default in words: generators would require a member that has one."""
    if "enum" in schema:
        schema["type"] = "string"
    default = schema.pop("default", None)
    if default is not None:
        text = f"{schema.get('description', '')} Default: {orjson.dumps(default).decode()}."
        schema["description"] = text.strip()


def ref(name: str) -> JsonSchema:
    return {"$ref": f"#/components/schemas/{name}"}


def _paths() -> JsonSchema:
    paths = {operation.path: {"get": _get(operation)} for operation in OPERATIONS}
    stream = _text("An endless stream.", "text/event-stream")
    # The data of its events, for readers: generators take the stream as text.
    stream["content"]["text/event-stream"]["schema"] |= {
        "contentMediaType": "application/json",
        "contentSchema": ref("Live"),
    }
    paths[today.PATH] = {
        "get": {
            "operationId": "live",
            "summary": "Today's figures, streamed as they change",
            "description": "Server-sent events: `figures` with a `Live` as its data, at once and at every change; "
            "`unavailable` with `{}` while they cannot be read; comments in between. The stream ends when the bearer's "
            "token expires. The status is also 503 if the process already serves its maximum number of streams.",
            "tags": ["statistics"],
            "responses": {"200": stream, **_errors()},
        }
    }
    paths[gauges.PATH] = {
        "get": {
            "operationId": "metrics",
            "summary": "Today's and this month's figures as Prometheus gauges",
            "tags": ["operations"],
            "responses": {
                "200": _text("Prometheus text format 0.0.4.", "text/plain") | {"headers": _headers()},
                "304": {"description": "Unchanged."},
                **_errors(),
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


def _get(operation: Operation) -> JsonSchema:
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "tags": ["statistics"],
        "parameters": [
            _used(parameter)
            for parameter in (*operation.parameters, *((REGION,) if operation.regional else ()), BOM, FORMAT)
        ],
        "responses": {
            "200": {
                "description": "The figures; the CSV has their items.",
                "headers": _headers(),
                "content": {
                    "application/json": {"schema": ref(operation.answer.__name__)},
                    "text/csv": {"schema": {"type": "string"}},
                },
            },
            "304": {"description": "The content that `If-None-Match` names is unchanged."},
            **_errors(),
        },
    }


def _text(description: str, media: str) -> JsonSchema:
    return {"description": description, "content": {media: {"schema": {"type": "string"}}}}


def _headers() -> JsonSchema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}


def _errors() -> JsonSchema:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in ERRORS}


def _used(parameter: Parameter[Any]) -> JsonSchema:
    if parameter in SHARED:
        return {"$ref": f"#/components/parameters/{parameter.name}"}
    return _parameter(parameter)


def _parameter(parameter: Parameter[Any]) -> JsonSchema:
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _with_examples(paths: Mapping[str, JsonSchema]) -> JsonSchema:
    """The paths with a recorded request and answer of each operation; the document lists none for other media types."""
    found: JsonSchema = {}
    for path, methods in paths.items():
        found[path] = {}
        for method, operation in methods.items():
            example = examples().get(operation["operationId"])
            found[path][method] = operation if example is None else _with_example(operation, example)
    return found


def _with_example(operation: JsonSchema, example: Mapping[str, Any]) -> JsonSchema:
    responses = dict(operation["responses"])
    status = example["status"]
    responses[status] = _filled(responses[status], example["media"], example["request"], example["answer"])
    filled = operation | {"responses": responses}
    if "body" in example:
        (media,) = operation["requestBody"]["content"]
        filled["requestBody"] = _filled(operation["requestBody"], media, "The body", example["body"])
    return filled


def _filled(content: JsonSchema, media: str, summary: str, value: Any) -> JsonSchema:
    examples_of = {"recorded": {"summary": summary, "value": value}}
    return content | {"content": content["content"] | {media: content["content"][media] | {"examples": examples_of}}}


@cache
def examples() -> dict[str, dict[str, Any]]:
    """By operation: a request and its answer, recorded by `python -m tests.api.dialects.own.examples`."""
    found: dict[str, dict[str, Any]] = orjson.loads(files(__package__).joinpath("examples.json").read_bytes())
    return found


def _version() -> str:
    try:
        return version("authtally")
    except PackageNotFoundError:
        return "0"
