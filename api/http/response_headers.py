"""Headers of every response."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web
from multidict import istr

SERVER: Final = "authtally"
BASIC_HEADERS: Final = {hdrs.SERVER: SERVER, istr("X-Content-Type-Options"): "nosniff"}
"""aiohttp's Server header names the versions of Python and aiohttp."""
PUBLIC_PATH: Final = "/dashboard/"
"""Files that are the same for everybody. All other answers may differ by the caller's token."""
SESSION_PATHS: Final = ("/reporting/", "/admin/")
"""Answers that may also differ by a session's cookie."""


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Runs before a response is sent. Without `Vary` a shared cache may serve one caller's answer to another."""
    headers = response.headers
    if headers[hdrs.SERVER] == SERVER:
        # An answer of the cache, whose headers are built once a second, with these.
        return
    path = getattr(request, "raw_path", "")
    # Assigned, not added: aiohttp has set its own Server header before.
    for name, value in BASIC_HEADERS.items():
        headers[name] = value
    if path == "/" or path.startswith(PUBLIC_PATH):
        return
    needed = (hdrs.AUTHORIZATION, hdrs.COOKIE) if path.startswith(SESSION_PATHS) else (hdrs.AUTHORIZATION,)
    given = headers.get(hdrs.VARY, "")
    headers[hdrs.VARY] = ", ".join([*filter(None, [given]), *(name for name in needed if name not in given)])
