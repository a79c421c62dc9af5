"""Access tokens by OAuth 2 client credentials (RFC 6749, 4.4), kept until most of their time is over."""

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

from schemas.connections.kafka_settings import KafkaConnectionSettings
from schemas.prefix import PREFIX

TIMEOUT_S: Final = 10.0
MAX_BYTES: Final = 256 * 1024
REFRESH_FRACTION: Final = 0.8
"""Of a token's time; librdkafka's fraction. What is left is for an endpoint that is away for a moment."""
DEFAULT_LIFETIME_S: Final = 300.0
"""Of a token that does not say."""
PAUSE_S: Final = 1.0
"""After a refusal. Clients reconnect many times a second, and each wants a token."""


class TokenError(Exception):
    """No token; the text names the setting to look at, and no secret."""


class Token(NamedTuple):
    value: str
    lifetime_s: float


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """Whoever answers elsewhere would be sent the secret."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetch(settings: KafkaConnectionSettings) -> Token:
    """Ask the endpoint for a token. Blocks; raises TokenError."""
    url = settings.kafka_oauth_token_url
    form = {"grant_type": "client_credentials"}
    if settings.kafka_oauth_scope:
        form["scope"] = settings.kafka_oauth_scope
    # Not percent-encoded before, which RFC 6749 wants: librdkafka does not, and both sign in at one endpoint.
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
        raise TokenError(str(error)) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            text = (
                f"KAFKA_OAUTH_CAFILE: does not vouch for the server of KAFKA_OAUTH_TOKEN_URL ({reason.verify_message})"
            )
            raise TokenError(PREFIX + text) from error
        raise TokenError(f"{PREFIX}KAFKA_OAUTH_TOKEN_URL={url}: no answer ({reason})") from error
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
        raise TokenError(f"{PREFIX}KAFKA_OAUTH_TOKEN_URL={url}: answers no token") from error


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
    """By the `exp` of a JWT, which is not verified: it is the brokers' to do so."""
    try:
        payload = token.split(".")[1]
        return float(json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]) - time.time()
    except (ValueError, TypeError, KeyError, IndexError):
        return DEFAULT_LIFETIME_S


class TokenCache:
    """A token at any time, for whichever threads ask."""

    def __init__(self, settings: KafkaConnectionSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._value = ""
        self._renew_at = self._ends_at = self._retry_at = float("-inf")
        self.error: str | None = None
        """Why the last attempt to fetch one failed; None when it did not."""

    def get(self) -> str:
        """Blocks while one is fetched. Raises TokenError when there is none and the one held is over."""
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
