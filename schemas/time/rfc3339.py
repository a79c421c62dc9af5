"""RFC 3339 timestamps, whose fraction is cut after six digits: rounding could move a time into the next month."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

# msgspec reads nine fractional digits and rounds them to six.
_FINER: Final = re.compile(r"\.[0-9]{7,}")
_FINER_BYTES: Final = re.compile(rb"\.[0-9]{7}")
_SIX_DIGITS: Final = 7


class _Timed(Struct, frozen=True, gc=False):
    time: str


_DECODE_TIME: Final = msgspec.json.Decoder(_Timed).decode


def parse(text: str) -> datetime:
    """Parse RFC 3339 with an offset. Raises msgspec.ValidationError."""
    cut = _FINER.sub(lambda found: found[0][:_SIX_DIGITS], text, count=1)
    found: datetime = msgspec.convert(cut, Annotated[datetime, Meta(tz=True)])
    return found


def may_be_rounded(value: bytes) -> bool:
    """Whether JSON may contain a time with more than six fractional digits; escapes can hide the digits."""
    return b"\\u" in value or _FINER_BYTES.search(value) is not None


def cut_time(time: datetime, value: bytes) -> datetime:
    """The field `time` of the JSON object `value`, cut to microseconds; `time` is msgspec's decoded value.

    A time rounded up to another day has second and microsecond 0; callers that need only the day may skip others.
    """
    if not may_be_rounded(value):
        return time
    return parse(_DECODE_TIME(value.removeprefix(b"\xef\xbb\xbf")).time)
