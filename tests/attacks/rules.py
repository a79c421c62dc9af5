"""What holds for every answer, whatever was sent."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from tests.attacks.deployment import LIMITED, TOKEN, WEBHOOK
from tests.attacks.wire import STREAM, Reply

HEADERS: Final = frozenset(
    [
        "accept-encoding",
        "age",
        "allow",
        "cache-control",
        "connection",
        "content-disposition",
        "content-encoding",
        "content-length",
        "content-security-policy",
        "content-type",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "date",
        "etag",
        "keep-alive",
        "referrer-policy",
        "retry-after",
        "server",
        "set-cookie",
        "transfer-encoding",
        "vary",
        "www-authenticate",
        "x-accel-buffering",
        "x-content-type-options",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-request-id",
    ]
)
"""All that this api ever says; any other one somebody else has put there."""
UNAVAILABLE: Final = frozenset({"/v1/live"})
"""May be 503 while all is well: as many listen as may."""
TEXTS: Final = frozenset({"text/html", "text/javascript", "text/css", "image/svg+xml"})
SECRETS: Final = (TOKEN, LIMITED, WEBHOOK)
NEVER_ANSWERED: Final = re.compile(
    "|".join(
        [
            "Traceback",
            r'File "',
            r"\.py\b",
            r"object at 0x",
            r"<class '",
            "site-packages",
            *(re.escape(str(place)) for place in (Path(__file__).parents[2], Path.home(), sys.prefix)),
        ]
    )
)


def keep(reply: Reply, path: str, method: bytes = b"GET") -> None:
    """Fails where an answer breaks one."""
    assert reply.status < 500 or (reply.status == 503 and path in UNAVAILABLE), reply
    assert reply.headers.keys() <= HEADERS, reply.headers.keys() - HEADERS
    result = "\n".join(reply.headers.values())
    body = gzip.decompress(reply.body) if reply.headers.get("content-encoding") == "gzip" and reply.body else reply.body
    # Fixed files are ours, and not made of what was asked.
    if reply.media not in TEXTS:
        found = NEVER_ANSWERED.search(result + body.decode("utf-8", "replace"))
        assert found is None, (found, reply)
        assert not_http(reply) or not any(secret in text for secret in SECRETS for text in (result, body.decode())), (
            reply
        )
    if method != b"HEAD" and body and not not_http(reply):
        parse(reply.media, body)


def not_http(reply: Reply) -> bool:
    """The server's parser took it for no request, and shows its sender the line where it stopped."""
    return (reply.status, reply.media) == (400, "text/plain") and "x-request-id" not in reply.headers


def parse(media: str, body: bytes) -> None:
    """Raises ValueError where a body is not what its Content-Type says."""
    text = body.decode()
    if text.startswith("# "):
        # Gluu's and Janssen's servers call it JSON too.
        assert media in ("text/plain", "application/json")
        list(text_string_to_metric_families(text))
    elif media.endswith("json"):
        json.loads(text)
    elif media == "text/csv":
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True))
        assert len({len(row) for row in rows}) <= 1, rows[:3]
    elif media == STREAM:
        assert all(line.partition(":")[0] in ("event", "data", "") for line in text.split("\n")), text
    else:
        assert media in TEXTS or (media == "text/plain" and len(text) < 200), (media, text[:200])
