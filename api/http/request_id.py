"""Request ids for log lines: the caller's own id if it sends one, otherwise a random one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Final

import structlog
from multidict import istr

REQUEST_ID: Final = istr("X-Request-Id")
TRACEPARENT: Final = "traceparent"

REQUEST_ID_FORM: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)
"""Text that is safe in a log line and a header."""
TRACEPARENT_FORM: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
"""W3C Trace Context §3.2: version, trace, parent, flags; additions of later versions are ignored."""


def request_id_of(headers: Mapping[str, str]) -> str:
    """`X-Request-Id`, the trace of `traceparent`, or 16 random characters. Malformed headers are ignored."""
    given = headers.get(REQUEST_ID)
    if given is not None and REQUEST_ID_FORM.fullmatch(given):
        return given
    trace = TRACEPARENT_FORM.fullmatch(headers.get(TRACEPARENT, ""))
    return secrets.token_hex(8) if trace is None else trace[1]


class bind_request_id:  # noqa: N801 -- read as a statement; a generator would double its cost for every ingest request
    """Adds the id to every line logged inside, those of libraries included. Must not be nested."""

    __slots__ = ("_request_id",)

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def __enter__(self) -> None:
        structlog.contextvars.bind_contextvars(request_id=self._request_id)

    def __exit__(self, *_: object) -> None:
        structlog.contextvars.unbind_contextvars("request_id")
