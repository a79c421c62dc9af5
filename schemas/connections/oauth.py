"""Access tokens by OAuth 2 client credentials (RFC 6749, 4.4), cached for most of their lifetime."""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import structlog

from schemas.connections.kafka_settings import KafkaConnectionSettings
from schemas.connections.urls import is_in_the_clear, masked_url, masked_urls
from schemas.prefix import PREFIX

log = structlog.get_logger(__name__)

TIMEOUT_S: Final = 10.0
MAX_BYTES: Final = 256 * 1024
REFRESH_FRACTION: Final = 0.8
"""Fraction of a token's lifetime, as in librdkafka. The rest bridges a short outage of the endpoint."""
DEFAULT_LIFETIME_S: Final = 300.0
"""Lifetime of a token that does not state one."""
PAUSE_S: Final = 1.0
"""Pause after a failed fetch. Clients reconnect many times a second, and each needs a token."""


class TokenError(Exception):
    """No token could be fetched; the text names the setting to check, and contains no secret."""


class Token(NamedTuple):
    value: str
    lifetime_s: float


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """Never follow redirects: the target would receive the client secret."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetch(settings: KafkaConnectionSettings) -> Token:
    """Fetch a token from the endpoint. Blocks; raises TokenError."""
    url = settings.kafka_oauth_token_url
    form = {"grant_type": "client_credentials"}
    if settings.kafka_oauth_scope:
        form["scope"] = settings.kafka_oauth_scope
    # Not percent-encoded, against RFC 6749: librdkafka does not encode either, and both use the same endpoint.
    login = f"{settings.kafka_oauth_client_id}:{settings.kafka_oauth_client_secret.get_secret_value()}"
    request = urllib.request.Request(  # noqa: S310 (http or https, by the setting's check)
        url,
        urlencode(form).encode(),
        {"Authorization": f"Basic {b64encode(login.encode()).decode()}", "Accept": "application/json"},
    )
    try:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=settings.kafka_oauth_tls()),
            _RefuseRedirects(),
        )
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            body = answer.read(MAX_BYTES)
    except urllib.error.HTTPError as refusal:
        with refusal:
            raise TokenError(_refusal_text(refusal.code, _error_code(refusal.read(MAX_BYTES)))) from refusal
    except ValueError as error:
        raise TokenError(masked_urls(str(error), url)) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            text = f"KAFKA_OAUTH_CAFILE: does not verify the server of KAFKA_OAUTH_TOKEN_URL ({reason.verify_message})"
            raise TokenError(PREFIX + text) from error
        raise TokenError(f"{PREFIX}KAFKA_OAUTH_TOKEN_URL={masked_url(url)}: no answer ({reason})") from error
    try:
        payload = json.loads(body)
        value, lifetime = payload["access_token"], payload.get("expires_in")
        if not isinstance(value, str) or not value.isascii() or not value:
            raise ValueError
        token = Token(value, float(lifetime) if lifetime is not None else _lifetime(value))
        if not 0 < token.lifetime_s < float("inf"):
            raise ValueError
        return token
    except (ValueError, TypeError, KeyError) as error:
        raise TokenError(f"{PREFIX}KAFKA_OAUTH_TOKEN_URL={masked_url(url)}: the answer contains no token") from error


def _error_code(body: bytes) -> str:
    try:
        code = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return ""
    return code[:100] if isinstance(code, str) else ""


def _refusal_text(status: int, code: str) -> str:
    if code == "invalid_scope":
        return f"{PREFIX}KAFKA_OAUTH_SCOPE: refused by the token endpoint ({status} {code})"
    if status in (401, 403) or code in ("invalid_client", "unauthorized_client"):
        names = f"{PREFIX}KAFKA_OAUTH_CLIENT_ID, {PREFIX}KAFKA_OAUTH_CLIENT_SECRET"
        return f"{names}: refused by the token endpoint ({status} {code})"
    return f"{PREFIX}KAFKA_OAUTH_TOKEN_URL: answers {status} {code}".rstrip()


def _lifetime(token: str) -> float:
    """The lifetime by the `exp` of a JWT, which is not verified: the brokers do that."""
    try:
        payload = token.split(".")[1]
        return float(json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]) - time.time()
    except (ValueError, TypeError, KeyError, IndexError):
        return DEFAULT_LIFETIME_S


class TokenCache:
    """The current token; safe for several threads."""

    def __init__(self, settings: KafkaConnectionSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._value = ""
        self._renew_at = self._ends_at = self._retry_at = float("-inf")
        self.error: str | None = None
        """The reason why the last fetch failed; None after a success."""
        if is_in_the_clear(settings.kafka_oauth_token_url):
            log.warning("client secret is sent in the clear", setting=f"{PREFIX}KAFKA_OAUTH_TOKEN_URL", use="https")

    def get(self) -> str:
        """The token. Blocks during a fetch. Raises TokenError if the fetch fails and the cached token has expired."""
        with self._lock:
            now = self._clock()
            if now >= self._renew_at and now >= self._retry_at:
                self._fetch(now)
            if now >= self._ends_at:
                raise TokenError(self.error)
            return self._value

    def _fetch(self, now: float) -> None:
        try:
            token = fetch(self._settings)
        except TokenError as error:
            self.error = str(error)
            self._retry_at = self._clock() + PAUSE_S
        else:
            self.error = None
            self._value = token.value
            self._renew_at = now + REFRESH_FRACTION * token.lifetime_s
            self._ends_at = now + token.lifetime_s
