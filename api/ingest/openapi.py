"""The ingest routes as path items for `/openapi.json` (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any, Final

from api.http.problem import PROBLEM_JSON
from api.ingest.routes import CLOUD_EVENTS_MEDIA, NATIVE_MEDIA, WEBHOOKS
from api.ingest.senders import SCOPE, SECRET_HEADER
from schemas.events import EVENTS

REJECTED: Final[dict[str, Any]] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["index", "reason", "detail"],
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "Index in the body, from 0."},
            "reason": {
                "type": "string",
                "description": "A dead letter's reason, or realm, no_topic, too_old, unknown_field.",
            },
            "detail": {"type": "string", "description": "Names fields and limits, never values."},
        },
    },
}
WARNINGS: Final[dict[str, Any]] = {
    "type": "array",
    "description": "Accepted events with unknown fields, the first 100; missing if there are none.",
    "items": {
        "type": "object",
        "required": ["index", "detail"],
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "Index in the body, from 0."},
            "detail": {"type": "string", "description": "Names fields, never values."},
        },
    },
}
INDEXES: Final = {"type": "array", "items": {"type": "integer", "minimum": 0}}
COUNT: Final = {"type": "integer", "minimum": 0}
UNKNOWN: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": COUNT,
    "description": "Ignored elements by event type, if the type is unknown: neither counted nor ignored by name.",
}

SCHEMAS: Final[dict[str, Any]] = {
    "Taken": {
        "type": "object",
        "required": ["accepted", "ignored", "rejected"],
        "properties": {
            "accepted": COUNT,
            "ignored": COUNT,
            "rejected": REJECTED,
            "unknown": UNKNOWN,
            "warnings": WARNINGS,
        },
    },
    "IngestProblem": {
        "type": "object",
        "required": ["title", "status", "detail"],
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "rejected": REJECTED,
            "accepted": COUNT,
            "ignored": COUNT,
            "acknowledged": INDEXES | {"description": "With 503: elements that Kafka acknowledged."},
            "unacknowledged": INDEXES | {"description": "With 503: elements to send again."},
        },
    },
    "NativeEvent": {
        "type": "object",
        "required": ["type", "time"],
        "properties": {
            "type": {"enum": list(EVENTS)},
            "time": {"type": "string", "format": "date-time"},
            "id": {"type": "string", "description": "Events with equal ids count once. At most 1,024 bytes."},
        },
        "additionalProperties": True,
    },
    "CloudEvent": {
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string"},
            "source": {"type": "string"},
            "type": {"type": "string"},
            "subject": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
            "data": True,
        },
        "additionalProperties": True,
    },
}
"""Components that PATHS refer to."""

REFUSALS: Final = {
    400: "Nothing was accepted: the body is malformed, or every element was rejected (`rejected`).",
    401: "The token is missing or not valid here.",
    403: f"The token lacks the scope {SCOPE}.",
    408: "The body did not arrive in time.",
    413: "The body's size or its number of events exceeds the limit.",
    415: "The media type or the Content-Encoding is not supported.",
    429: "Too many bytes wait for Kafka, or this sender sends too often; Retry-After says when to try again.",
    503: "Kafka did not acknowledge every event in time; `unacknowledged` lists the elements to send again.",
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _one_or_many(name: str) -> dict[str, Any]:
    return {"oneOf": [_ref(name), {"type": "array", "items": _ref(name)}]}


def _responses() -> dict[str, Any]:
    problem = {"content": {PROBLEM_JSON: {"schema": _ref("IngestProblem")}}}
    retry = {"headers": {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}}
    taken = {
        "description": "Kafka has acknowledged every accepted event.",
        "content": {"application/json": {"schema": _ref("Taken")}},
    }
    refused = {
        str(status): {"description": text} | problem | (retry if status in (429, 503) else {})
        for status, text in REFUSALS.items()
    }
    return {"202": taken} | refused


def _events() -> dict[str, Any]:
    content: dict[str, Any] = {media: {"schema": _one_or_many("NativeEvent")} for media in sorted(NATIVE_MEDIA)}
    content |= {media: {"schema": _one_or_many("CloudEvent")} for media in sorted(CLOUD_EVENTS_MEDIA)}
    return {
        "post": {
            "operationId": "sendEvents",
            "summary": "Send native events or CloudEvents; in binary mode the attributes are `ce-…` headers.",
            "tags": ["ingest"],
            "security": [{"bearer": []}],
            "requestBody": {"required": True, "content": content},
            "responses": _responses(),
        }
    }


def _webhook(name: str) -> dict[str, Any]:
    return {
        "post": {
            "operationId": f"ingest{name.capitalize()}",
            "summary": f"The webhook of {name}, in its own format.",
            "description": f"Needs the webhook's secret in Authorization or {SECRET_HEADER}, or a token with {SCOPE}.",
            "tags": ["ingest"],
            "security": [{"bearer": []}, {"webhookSecret": []}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": True}}},
            "responses": _responses(),
        }
    }


SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "webhookSecret": {"type": "apiKey", "in": "header", "name": SECRET_HEADER},
}

PATHS: Final[dict[str, Any]] = {
    "/v1/events": _events(),
    **{f"/v1/ingest/{name}": _webhook(name) for name in WEBHOOKS},
}
"""Only with INGEST=on."""
