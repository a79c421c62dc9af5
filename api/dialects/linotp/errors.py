"""Errors as LinOTP answers them: mostly status 200 with an error code in the document."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Final

from api.dialects.linotp.envelope import JSON, failure
from api.endpoint import error_headers
from api.http.errors import (
    ApiError,
    BadRequestError,
    ErrorBody,
    ForbiddenError,
    InsufficientScopeError,
    UnauthorizedError,
)
from api.settings.settings import Shape

HTML: Final = "text/html; charset=utf-8"
GENERIC_CODE: Final = -311
POLICY_CODE: Final = 410

NO_SESSION_MESSAGE: Final = "You have no valid session!"


class PolicyDeniedError(ForbiddenError):
    """No policy allows the action."""


def policy_error(action: str) -> PolicyDeniedError:
    return PolicyDeniedError(
        "You do not have the administrative right to do this. "
        f"You are missing a policy scope=reporting.access, action={action}"
    )


def render_error(action: str, parameters: Mapping[str, str], shape: Shape, error: ApiError) -> ErrorBody:
    """A JSON document, mostly with status 200; or the HTML page with another status that `httperror` asks for."""
    if isinstance(error, InsufficientScopeError):
        error = policy_error(action)
    code = POLICY_CODE if isinstance(error, PolicyDeniedError) else GENERIC_CODE
    message = NO_SESSION_MESSAGE if isinstance(error, UnauthorizedError) else error.message
    status = 200 if isinstance(error, BadRequestError | PolicyDeniedError) else error.status
    headers = error_headers(error, status)
    if (asked := parameters.get("httperror")) is not None:
        http_status = int(asked) if re.fullmatch(r"[45]\d\d", asked, re.ASCII) else 500
        page = (
            f"<!DOCTYPE html><title>{http_status}</title><h1>{http_status}</h1><p>{code}: {html.escape(message)}</p>\n"
        )
        return ErrorBody(page.encode(), HTML, http_status, headers)
    return ErrorBody(failure(code, message, shape), JSON, status, headers)
