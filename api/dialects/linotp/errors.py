"""What LinOTP answers where it refuses: mostly a 200, with the fault's number in it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web

from api.dialects.linotp.envelope import JSON, failure
from api.endpoint import CHALLENGE
from api.http.errors import ApiError, BadRequestError, ForbiddenError, InsufficientScopeError, UnauthorizedError
from api.ledger.cooldown import RETRY_S
from api.settings.settings import Shape

GENERIC_CODE: Final = -311
POLICY_CODE: Final = 410

NO_SESSION_MESSAGE: Final = "You have no valid session!"


class PolicyDeniedError(ForbiddenError):
    """A policy, or the lack of one, forbids it."""


def policy_error(action: str) -> PolicyDeniedError:
    return PolicyDeniedError(
        "You do not have the administrative right to do this. "
        f"You are missing a policy scope=reporting.access, action={action}"
    )


def error_response(error: ApiError, action: str, parameters: Mapping[str, str], shape: Shape) -> web.Response:
    """`httperror` asks for a page with that status instead, as the product gives it."""
    if isinstance(error, InsufficientScopeError):
        error = policy_error(action)
    code = POLICY_CODE if isinstance(error, PolicyDeniedError) else GENERIC_CODE
    message = NO_SESSION_MESSAGE if isinstance(error, UnauthorizedError) else error.message
    status = 200 if isinstance(error, BadRequestError | PolicyDeniedError) else error.status
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    if status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = CHALLENGE
    elif status == 503:
        headers[hdrs.RETRY_AFTER] = str(int(RETRY_S))
    if (asked := parameters.get("httperror")) is not None:
        http_status = int(asked) if re.fullmatch(r"[45]\d\d", asked, re.ASCII) else 500
        page = (
            f"<!DOCTYPE html><title>{http_status}</title><h1>{http_status}</h1><p>{code}: {html.escape(message)}</p>\n"
        )
        return web.Response(status=http_status, text=page, content_type="text/html", headers=headers)
    headers[hdrs.CONTENT_TYPE] = JSON
    return web.Response(status=status, body=failure(code, message, shape), headers=headers)
