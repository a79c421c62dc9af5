"""Errors as LinOTP answers them: mostly status 200 with an error code in the document."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs

from api.boundary import error_headers
from api.dialects.linotp.envelope import JSON, SOURCE_NAME, VERSION, failure
from api.http.errors import (
    ApiError,
    BadRequestError,
    ErrorBody,
    ForbiddenError,
    InsufficientScopeError,
    UnauthorizedError,
)
from api.settings.checks import Shape

HTML: Final = "text/html; charset=utf-8"
GENERIC_CODE: Final = -311
POLICY_CODE: Final = 410

NO_SESSION: Final[Mapping[Shape, str]] = {"documented": "You have no valid session!", "source": "Not authenticated"}
"""LinOTP 2.12's text, and LinOTP 4.0's."""

PAGE: Final = """
<html>
<head>
<title>{0} {1}</title>
</head>
<body>
<h1>{0} {1}</h1>
{2}
<br>
<br>
</body>
</html>
"""
"""The page of `httperror` (linotp/lib/reply.py)."""


class PolicyDeniedError(ForbiddenError):
    """No policy allows the action."""

    def __init__(self, message: str) -> None:
        super().__init__(f"ERR{POLICY_CODE}: {message}")


class UnknownPathError(ApiError):
    """A path below /reporting that LinOTP does not have."""

    status = 404


class MethodError(ApiError):
    """A method that the path does not accept."""

    status = 405


def policy_error(action: str) -> PolicyDeniedError:
    return PolicyDeniedError(
        "You do not have the administrative right to do this. "
        f"You are missing a policy scope=reporting.access, action={action}"
    )


def realms_error(realms: Sequence[str]) -> PolicyDeniedError:
    return PolicyDeniedError(f"You do not have the rights to see these realms: {realms!r}. Check the policies!")


def render_error(action: str, parameters: Mapping[str, str], shape: Shape, error: ApiError) -> ErrorBody:
    """A JSON document, mostly with status 200; or the HTML page with another status that `httperror` asks for."""
    if isinstance(error, InsufficientScopeError):
        error = policy_error(action)
    code = POLICY_CODE if isinstance(error, PolicyDeniedError) else GENERIC_CODE
    message = NO_SESSION[shape] if isinstance(error, UnauthorizedError) else error.message
    status = 200 if isinstance(error, BadRequestError | PolicyDeniedError) else error.status
    headers = error_headers(error, status)
    if isinstance(error, UnauthorizedError) and action == "getsession":
        headers[hdrs.WWW_AUTHENTICATE] += ', Basic realm="authtally", charset="UTF-8"'
    if (asked := parameters.get("httperror")) is not None:
        http_status = int(asked) if re.fullmatch(r"[45]\d\d", asked, re.ASCII) else 500
        # Escaped, which LinOTP omits: the message repeats texts of the request.
        text = html.escape(f"[{SOURCE_NAME if shape == 'source' else VERSION}] {code}: {message}", quote=False)
        page = PAGE.format(http_status, f"{http_status} {_reason(http_status)}", text)
        return ErrorBody(page.encode(), HTML, http_status, headers)
    return ErrorBody(failure(code, message, shape), JSON, status, headers)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "LinOTP Error"
