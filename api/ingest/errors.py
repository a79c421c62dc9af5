"""Why a delivery is not taken, as problem documents (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, TypedDict

import orjson
from aiohttp import hdrs, web

from api.endpoint import CHALLENGE
from api.http.errors import PROBLEM_JSON, ApiError, InsufficientScopeError

RETRY_S: Final = 1.0
"""After which a caller may try again where nothing says when it will be better."""
ACCEPTED_ENCODINGS: Final = "gzip, deflate, identity"


class Rejection(TypedDict):
    """An element that was not taken. `detail` names fields and limits, never values."""

    index: int
    reason: str
    detail: str


class IngestError(ApiError):
    """A Fault that says when to come back, and more than a sentence. `cause` is for metrics."""

    cause: str

    def __init__(self, message: str, *, wait_s: float | None = None, **members: object) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.members: Mapping[str, object] = members


class BadBodyError(IngestError):
    status = 400
    cause = "body"


class AllRejectedError(IngestError):
    """Every element was rejected: nothing of it went to Kafka."""

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
    """So much is under way that one body more could not be held."""

    status = 429
    cause = "in_flight"


class RateLimitedError(IngestError):
    status = 429
    cause = "rate"


class UnacknowledgedError(IngestError):
    """Kafka has not taken all of it in time."""

    status = 503
    cause = "kafka"


def problem_response(error: ApiError) -> web.Response:
    """The problem document, with the headers that its status asks for."""
    status = 403 if isinstance(error, InsufficientScopeError) else error.status
    problem: dict[str, object] = {"title": HTTPStatus(status).phrase, "status": status, "detail": error.message}
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    wait_s = RETRY_S if status == 503 else None
    if isinstance(error, IngestError):
        problem |= error.members
        wait_s = error.wait_s or wait_s
    if wait_s is not None:
        headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(wait_s)))
    if status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = CHALLENGE
    elif status == 403:
        headers[hdrs.WWW_AUTHENTICATE] = f'{CHALLENGE}, error="insufficient_scope"'
    elif status == 415:
        headers[hdrs.ACCEPT_ENCODING] = ACCEPTED_ENCODINGS
    return web.Response(status=status, body=orjson.dumps(problem), content_type=PROBLEM_JSON, headers=headers)
