"""What LinOTP answers where it refuses: mostly a 200, with the fault's number in it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web

from api.dialects.linotp.envelope import JSON, failed
from api.endpoint import CHALLENGE
from api.http.errors import BadQuestion, Fault, Forbidden, NoScope, NotAuthorized
from api.ledger.cooldown import RETRY_S
from api.settings.settings import Shape

GENERIC: Final = -311
POLICY: Final = 410

NO_SESSION: Final = "You have no valid session!"


class NotAllowed(Forbidden):
    """A policy, or the lack of one, forbids it."""


def missing_policy(action: str) -> NotAllowed:
    return NotAllowed(
        "You do not have the administrative right to do this. "
        f"You are missing a policy scope=reporting.access, action={action}"
    )


def refusal(fault: Fault, action: str, parameters: Mapping[str, str], shape: Shape) -> web.Response:
    """`httperror` asks for a page with that status instead, as the product gives it."""
    if isinstance(fault, NoScope):
        fault = missing_policy(action)
    code = POLICY if isinstance(fault, NotAllowed) else GENERIC
    sentence = NO_SESSION if isinstance(fault, NotAuthorized) else fault.sentence
    status = 200 if isinstance(fault, BadQuestion | NotAllowed) else fault.status
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    if status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = CHALLENGE
    elif status == 503:
        headers[hdrs.RETRY_AFTER] = str(int(RETRY_S))
    if (asked := parameters.get("httperror")) is not None:
        wanted = int(asked) if re.fullmatch(r"[45]\d\d", asked, re.ASCII) else 500
        page = f"<!DOCTYPE html><title>{wanted}</title><h1>{wanted}</h1><p>{code}: {html.escape(sentence)}</p>\n"
        return web.Response(status=wanted, text=page, content_type="text/html", headers=headers)
    headers[hdrs.CONTENT_TYPE] = JSON
    return web.Response(status=status, body=failed(code, sentence, shape), headers=headers)
