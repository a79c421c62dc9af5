"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson

from api.http.errors import ApiError, ErrorBody, InsufficientScopeError

PROBLEM_JSON: Final = "application/problem+json"


def render_problem(error: ApiError, head: Mapping[str, object] | None = None) -> ErrorBody:
    """The problem document, with the members of `head` first. A missing scope is a 403."""
    status, message = HTTPStatus(error.status), error.message
    if isinstance(error, InsufficientScopeError):
        status, message = HTTPStatus.FORBIDDEN, "The token does not carry the required scope."
    document = {**(head or {}), "title": status.phrase, "status": status.value, "detail": message, **error.members}
    return ErrorBody(orjson.dumps(document), PROBLEM_JSON, status.value)
