"""Errors of ingest, rendered as problem documents (RFC 9457)."""

from __future__ import annotations

from typing import Annotated, Final, TypedDict

from aiohttp import hdrs
from msgspec import Meta

from api.boundary import CHALLENGE, error_headers
from api.http.errors import ApiError, ErrorBody
from api.http.problem import render_problem

ACCEPTED_ENCODINGS: Final = "gzip, deflate, identity"


class Rejection(TypedDict):
    """A rejected element."""

    index: Annotated[int, Meta(ge=0, description="Index in the body, from 0.")]
    reason: Annotated[str, Meta(description="A dead letter's reason, or realm, no_topic, too_old, unknown_field.")]
    detail: Annotated[str, Meta(description="Names fields and limits, never values.")]


class ElementWarning(TypedDict):
    """An accepted element that its sender should check."""

    index: Annotated[int, Meta(ge=0, description="Index in the body, from 0.")]
    detail: Annotated[str, Meta(description="Names fields, never values.")]


class IngestError(ApiError):
    """An error of ingest alone. `cause` is the metrics' label."""

    cause: str

    def __init__(self, message: str, *, wait_s: float | None = None, **members: object) -> None:
        super().__init__(message, wait_s=wait_s, members=members)


class BadBodyError(IngestError):
    status = 400
    cause = "body"


class AllRejectedError(IngestError):
    """Every element was rejected; nothing was sent to Kafka."""

    status = 400
    cause = "all_bad"


class BodyTimeoutError(IngestError):
    status = 408
    cause = "slow"


class TooLargeError(IngestError):
    status = 413
    cause = "too_large"


class UnsupportedMediaError(IngestError):
    status = 415
    cause = "media"


class BusyError(IngestError):
    """INGEST_MAX_IN_FLIGHT_BYTES leaves no room for this body."""

    status = 429
    cause = "in_flight"


class RateLimitedError(IngestError):
    status = 429
    cause = "rate"


class UnacknowledgedError(IngestError):
    """Kafka did not acknowledge every record in time."""

    status = 503
    cause = "kafka"


def render_error(error: ApiError) -> ErrorBody:
    body = render_problem(error)
    headers = error_headers(error, body.status)
    if body.status == 403:
        headers[hdrs.WWW_AUTHENTICATE] = f'{CHALLENGE}, error="insufficient_scope"'
    elif body.status == 415:
        headers[hdrs.ACCEPT_ENCODING] = ACCEPTED_ENCODINGS
    return body._replace(headers=headers)
