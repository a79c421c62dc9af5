"""The ingest routes as path items for `/openapi.json` (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from api.http.problem import PROBLEM_JSON
from api.ingest.errors import ElementWarning, Rejection
from api.ingest.routes import CLOUD_EVENTS_MEDIA, EVENTS, NATIVE_MEDIA, WEBHOOKS
from api.ingest.routes import PATHS as ROUTES
from api.ingest.senders import SCOPE
from api.ingest.signatures import BodyHashJwt, HmacSha256
from api.settings.checks import SECRET_HEADER
from schemas.events import Event
from schemas.prefix import PREFIX

JsonSchema = dict[str, Any]
Count = Annotated[int, Meta(ge=0)]
Indexes = list[Count]

SIGNATURES: Final = {"keycloak": HmacSha256.header, "fusionauth": BodyHashJwt.header}
"""Headers with the body's signature, by webhook."""


class Taken(Struct):
    """Kafka has every accepted event."""

    accepted: Count
    ignored: Count
    rejected: list[Rejection]
    unknown: Annotated[
        dict[str, Count] | UnsetType,
        Meta(
            description="Ignored elements by event type, if the type is unknown: neither counted nor ignored by name."
        ),
    ] = UNSET
    warnings: Annotated[
        list[ElementWarning] | UnsetType,
        Meta(description="Accepted events with unknown fields, the first 100; missing if there are none."),
    ] = UNSET


class IngestProblem(Struct):
    """A problem document (RFC 9457)."""

    title: str
    status: int
    detail: str
    rejected: list[Rejection] | UnsetType = UNSET
    accepted: Count | UnsetType = UNSET
    ignored: Count | UnsetType = UNSET
    acknowledged: Annotated[Indexes | UnsetType, Meta(description="With 503: elements that Kafka acknowledged.")] = (
        UNSET
    )
    unacknowledged: Annotated[Indexes | UnsetType, Meta(description="With 503: elements to send again.")] = UNSET


TYPES: Final[list[Any]] = [Taken, IngestProblem, Event]
"""Types whose schemas PATHS refer to."""

ERRORS: Final = {
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


def schema_of_native_events(schemas: JsonSchema) -> JsonSchema:
    """The schemas with `NativeEvent`, the union of the event types, which msgspec leaves unnamed."""
    tags = {schemas[event.__name__]["properties"]["type"]["enum"][0]: _ref(event.__name__) for event in get_args(Event)}
    return schemas | {
        "NativeEvent": {
            "title": "NativeEvent",
            "description": "An event of any type. Unknown members are ignored.",
            "oneOf": list(tags.values()),
            "discriminator": {
                "propertyName": "type",
                "mapping": {tag: reference["$ref"] for tag, reference in tags.items()},
            },
        }
    }


def _one_or_many(schema: JsonSchema) -> JsonSchema:
    return {"anyOf": [schema, {"type": "array", "items": schema}]}


def _responses() -> JsonSchema:
    problem = {"content": {PROBLEM_JSON: {"schema": _ref("IngestProblem")}}}
    retry = {"headers": {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}}
    taken = {
        "description": "Kafka has acknowledged every accepted event.",
        "content": {"application/json": {"schema": _ref("Taken")}},
    }
    errors = {
        str(status): {"description": text} | problem | (retry if status in (429, 503) else {})
        for status, text in ERRORS.items()
    }
    return {"202": taken} | errors


def _post(operation: str, summary: str, description: str, security: list[JsonSchema], schema: JsonSchema) -> JsonSchema:
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "description": description,
            "tags": ["ingest"],
            "security": security,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": _responses(),
        }
    }


def _events() -> JsonSchema:
    # One media type, because generated clients send the first one or fail for several.
    lines, cloud_events = (
        ", ".join(f"`{media}`" for media in sorted(found - {"application/json"}))
        for found in (NATIVE_MEDIA, CLOUD_EVENTS_MEDIA)
    )
    return _post(
        "send_events",
        "Send native events",
        f"One event or an array of them; as {lines} one event per line. CloudEvents are accepted too: structured and "
        f"in batches as {cloud_events}, and in binary mode with `ce-…` headers. An event whose type no topic is bound "
        "to is rejected.",
        [{"bearer": []}],
        _one_or_many(_ref("NativeEvent")),
    )


def _signature(name: str) -> str:
    return f"{name}Signature"


def _webhook(name: str) -> JsonSchema:
    signed = f", {SIGNATURES[name]}" if name in SIGNATURES else ""
    return _post(
        f"ingest_{name}",
        f"The webhook of {name}, in its own format",
        f"Needs the webhook's secret in Authorization (Bearer, Basic or alone) or in {SECRET_HEADER}, the header of "
        f"{PREFIX}INGEST_SECRET_HEADER{signed}, or a token with {SCOPE}.",
        [{"bearer": []}, {"webhookSecret": []}, {"webhookBasic": []}, *([{_signature(name): []}] if signed else [])],
        _one_or_many({"type": "object"}),
    )


SECURITY_SCHEMES: Final[JsonSchema] = {
    "webhookSecret": {"type": "apiKey", "in": "header", "name": SECRET_HEADER},
    "webhookBasic": {"type": "http", "scheme": "basic", "description": "Any user; the password is the secret."},
    **{
        _signature(name): {"type": "apiKey", "in": "header", "name": header, "description": "The body's signature."}
        for name, header in SIGNATURES.items()
    },
}

PATHS: Final[JsonSchema] = {
    ROUTES[EVENTS]: _events(),
    **{ROUTES[name]: _webhook(name) for name in WEBHOOKS},
}
"""Only with INGEST=on."""
