"""Names the setting to check when a connection to Redis fails."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from schemas.connections import tls
from schemas.connections.redis_settings import RedisConnectionSettings
from schemas.prefix import PREFIX


def diagnose_tls(text: str) -> str | None:
    """One line that names the setting behind a TLS failure; None if the failure is not about TLS."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or text
        if "mismatch" in reason or "not valid for" in reason:
            return f"{PREFIX}REDIS_URL: the server's certificate is for other host names ({reason})"
        if "expired" in reason:
            return f"{PREFIX}REDIS_URL: the server's {reason}"
        return f"{PREFIX}REDIS_CA_FILE: does not verify the server's certificate ({reason})"
    if "ALERT" in text:
        return f"{PREFIX}REDIS_CERT_FILE: the server refuses our certificate, or requires one ({text})"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return f"{PREFIX}REDIS_URL: the server does not speak TLS on this port; use redis:// or another port"
    return None


async def diagnose_refusal(settings: RedisConnectionSettings, text: str) -> str | None:
    """`diagnose_tls` of a failed connection's text; if that is None, of the text of a second connection."""
    return diagnose_tls(text) or await asyncio.to_thread(_probe_tls, settings)


def _probe_tls(settings: RedisConnectionSettings) -> str | None:
    """One line on why the server of REDIS_URL refuses our certificate, naming the setting. Blocks for seconds.

    The server sends one TLS alert and closes. A command sent meanwhile causes a reset, which discards the alert, so
    this connection sends none. None if the server accepts the certificate, without TLS, and behind Sentinel.
    """
    url = settings.redis_url.get_secret_value()
    if not settings.uses_tls(url) or settings.redis_sentinel:
        return None
    server = urlsplit(url)
    host = server.hostname or "localhost"
    try:
        with socket.create_connection((host, server.port or 6379), tls.CONNECT_S) as connection:
            tls.probe(connection, host, settings.redis_tls_context())
    except (OSError, ValueError) as error:
        return diagnose_tls(str(error))
    return None
