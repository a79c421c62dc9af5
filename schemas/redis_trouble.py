"""What redis-py says when a connection fails: whether one is lost, and which setting to look at."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

from schemas.prefix import PREFIX
from schemas.redis_connection import RedisConnection

CONNECT_S: Final = 2.0
ALERT_S: Final = 0.5
"""For a server that refuses our certificate: by TLS 1.3 it says so only after the handshake."""


def connection_is_lost(error: RuntimeError | AttributeError) -> bool:
    """Whether redis-py hands on what it got when a connection ended while it wrote, which it should have told itself.

    That is uvloop's error for writing to what the other side has closed, or Python's for what redis-py closed itself.
    """
    return "handler is closed" in str(error) or "'NoneType' object has no attribute 'write" in str(error)


def tls_trouble(text: str) -> str | None:
    """What a failed connection says of TLS, by the setting to look at; None when it is about something else."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or text
        if "mismatch" in why or "not valid for" in why:
            return f"{PREFIX}REDIS_URL: the server's certificate is for other host names ({why})"
        if "expired" in why:
            return f"{PREFIX}REDIS_URL: the server's {why}"
        return f"{PREFIX}REDIS_CA_FILE: does not vouch for the server's certificate ({why})"
    if "ALERT" in text:
        return f"{PREFIX}REDIS_CERT_FILE: the server refuses our certificate, or that there is none ({text})"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return f"{PREFIX}REDIS_URL: the server does not speak TLS there: redis:// instead of rediss://, or another port"
    return None


def refusal(settings: RedisConnection) -> str | None:
    """What the server of REDIS_URL says of our certificate, by the setting to look at. Blocks for seconds.

    It says so once and hangs up. Where it had been asked something by then, a reset overtakes that: so here it is asked
    nothing. None when it has no complaint, without TLS, and behind Sentinel.
    """
    url = settings.redis_url.get_secret_value()
    if not settings.speaks_tls(url) or settings.redis_sentinel:
        return None
    server = urlsplit(url)
    host = server.hostname or "localhost"
    try:
        with (
            socket.create_connection((host, server.port or 6379), CONNECT_S) as connection,
            settings.redis_tls_context().wrap_socket(connection, server_hostname=host) as secured,
        ):
            secured.settimeout(ALERT_S)
            secured.recv(1)
    except (OSError, ValueError) as error:
        return tls_trouble(str(error))
    return None
