"""What redis-py says when a connection fails, as the setting to look at and as the error that callers expect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.prefix import PREFIX


@contextmanager
def lost_connections_told() -> Iterator[None]:
    """Raise redis' ConnectionError for what it hands on as it is when a connection ends while it writes.

    That is uvloop's error for writing to what the other side has closed, or Python's for what redis-py closed itself.
    """
    try:
        yield
    except (RuntimeError, AttributeError) as error:
        if "handler is closed" in str(error) or "'NoneType' object has no attribute 'write" in str(error):
            raise RedisConnectionError(str(error)) from error
        raise


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
