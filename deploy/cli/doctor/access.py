"""Checks of `authtally doctor` on the api's access: authenticators, and the issuer's endpoints."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus, urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, encode_basic_auth

from api.auth.jwks import signing_key
from api.http.bounded_read import read_at_most
from api.settings import quotas, reporting_policy, token_file
from api.settings.settings import ApiSettings
from deploy.cli.doctor.findings import Finding, span
from schemas.connections.urls import is_in_the_clear, is_loopback, masked_url, masked_urls
from schemas.settings import PREFIX

MAX_BYTES: Final = 1 << 20
SKEW_S: Final = 5.0
TOO_MUCH_S: Final = 60.0
"""Beyond it, valid tokens appear expired or not yet valid."""


class Answer(NamedTuple):
    status: int
    body: Any
    """The parsed JSON; None if it is not JSON."""
    ahead_s: float | None
    """The server's clock minus ours, by its Date header; None without one."""


class NoAnswerError(Exception):
    """The server did not answer; the text gives the reason."""


def local(settings: ApiSettings) -> Iterator[Finding]:
    """Findings on the settings alone; asks no server."""
    if "none" in settings.auth:
        where = f"{settings.api_host}:{settings.api_port}"
        if is_loopback(settings.api_host):
            found = f"{PREFIX}AUTH=none: every user of this machine can read everything"
            yield Finding("access.ways", where, "warning", found, f"set {PREFIX}AUTH before others can reach it")
        else:
            found = f"{PREFIX}AUTH=none on an address that others can reach: everyone can read everything"
            yield Finding("access.ways", where, "problem", found, f"set {PREFIX}AUTH to static, jwt or introspection")
    else:
        result = [f"{PREFIX}AUTH={','.join(settings.auth)}"]
        if "static" in settings.auth and settings.auth_tokens_file is not None:
            number = len(token_file.read(settings.auth_tokens_file))
            result.append(f"{number} static token{'s' if number != 1 else ''}")
        yield Finding("access.ways", "", "ok", ", ".join(result))
    files = []
    if settings.quotas_file is not None:
        files.append(f"{len(quotas.read(settings.quotas_file).clients)} quotas of clients")
    if settings.reporting_policy_file is not None:
        policies = reporting_policy.read(settings.reporting_policy_file)
        files.append(f"{len(policies.recording) + len(policies.access)} reporting policies")
    if files:
        yield Finding("settings.api", "files", "ok", ", ".join(files))


async def of_issuer(settings: ApiSettings, patience_s: float) -> AsyncIterator[Finding]:
    """Findings on the answers of the issuer's servers."""
    timeout = ClientTimeout(total=patience_s)
    async with ClientSession(timeout=timeout) as session:
        asked = []
        if "jwt" in settings.auth:
            asked += [_keys(session, settings), _issuer(session, settings)]
        if "introspection" in settings.auth:
            asked.append(_introspection(session, settings))
        for findings in await asyncio.gather(*asked):
            for finding in findings:
                yield finding


async def _keys(session: ClientSession, settings: ApiSettings) -> list[Finding]:
    url, setting = settings.auth_jwks_url, f"{PREFIX}AUTH_JWKS_URL"
    shown = masked_url(url)
    check, advice = "access.keys", f"correct {setting}: it is jwks_uri in the issuer's configuration"
    try:
        answer = await _ask(session, "GET", url)
    except NoAnswerError as error:
        return [
            Finding(
                check, masked_url(url), "problem", f"no answer: {error}", f"{advice}; or allow this machine to reach it"
            )
        ]
    published = answer.body.get("keys") if isinstance(answer.body, dict) else None
    if answer.status != 200 or not isinstance(published, list):
        return [Finding(check, shown, "problem", f"no key set: status {answer.status}", advice)]
    usable = [key for key in published if isinstance(key, dict) and signing_key(key) is not None]
    if not usable:
        found = f"{len(published)} keys, but none for RS, PS, ES or EdDSA: no token can be verified"
        return [Finding(check, shown, "problem", found, "let the issuer sign with an asymmetric key")]
    findings = [Finding(check, shown, "ok", f"{len(usable)} signing keys"), *_clock(url, answer)]
    return [*findings, *_in_the_clear(check, url)]


async def _issuer(session: ClientSession, settings: ApiSettings) -> list[Finding]:
    """Compare the settings with the issuer's configuration (OpenID Connect Discovery), if it publishes one."""
    issuer, check = settings.auth_issuer, "access.issuer"
    shown = masked_url(issuer)
    if urlsplit(issuer).scheme not in ("http", "https"):
        return []
    try:
        answer = await _ask(session, "GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
    except NoAnswerError:
        answer = Answer(0, None, None)
    if answer.status != 200 or not isinstance(answer.body, dict):
        found = "its configuration cannot be read from here, so nothing was compared"
        return [
            Finding(
                check,
                masked_url(issuer),
                "unknown",
                found,
                f"make sure that tokens carry exactly this iss: {PREFIX}AUTH_ISSUER",
            )
        ]
    named = answer.body.get("issuer")
    if named != issuer:
        found = f"calls itself {str(named)[:200]!r}: its tokens are refused"
        return [Finding(check, shown, "problem", found, f"set {PREFIX}AUTH_ISSUER to exactly this name")]
    keys = answer.body.get("jwks_uri")
    if keys != settings.auth_jwks_url:
        found = f"publishes its keys at {masked_url(str(keys)[:200])}, not at {masked_url(settings.auth_jwks_url)}"
        advice = f"set {PREFIX}AUTH_JWKS_URL to that address, unless the difference is intended"
        return [Finding(check, shown, "warning", found, advice)]
    return [Finding(check, shown, "ok", "its configuration confirms its name and the address of its keys")]


async def _introspection(session: ClientSession, settings: ApiSettings) -> list[Finding]:
    url, check = settings.auth_introspection_url, "access.introspection"
    shown = masked_url(url)
    # Credentials as in api/auth/introspection.py, and a random token that the issuer never issued.
    login = encode_basic_auth(
        quote_plus(settings.auth_client_id), quote_plus(settings.auth_client_secret.get_secret_value())
    )
    form = {"token": secrets.token_urlsafe(16), "token_type_hint": "access_token"}
    try:
        answer = await _ask(session, "POST", url, data=form, headers={"Authorization": login})
    except NoAnswerError as error:
        advice = f"correct {PREFIX}AUTH_INTROSPECTION_URL, or allow this machine to reach it"
        return [Finding(check, shown, "problem", f"no answer: {error}", advice)]
    if answer.status in (400, 401, 403):
        found = f"refuses client {settings.auth_client_id!r}: status {answer.status}"
        advice = f"correct {PREFIX}AUTH_CLIENT_ID and {PREFIX}AUTH_CLIENT_SECRET, or allow the client to introspect"
        return [Finding(check, shown, "problem", found, advice)]
    active = answer.body.get("active") if isinstance(answer.body, dict) else None
    if answer.status != 200 or active is not False:
        found = f"its answer does not follow RFC 7662: status {answer.status}"
        if active is True:
            found = "it reports a token as active that it never issued: every token would be accepted"
        return [Finding(check, shown, "problem", found, f"correct {PREFIX}AUTH_INTROSPECTION_URL")]
    findings = [
        Finding(check, shown, "ok", "accepts our client, and rejects a wrong token"),
        *_clock(url, answer),
    ]
    return [*findings, *_in_the_clear(check, url)]


def _clock(url: str, answer: Answer) -> list[Finding]:
    host, check = urlsplit(url).netloc.rpartition("@")[2], "access.clock"
    if answer.ahead_s is None:
        return []
    apart = abs(answer.ahead_s)
    if apart <= SKEW_S:
        return [Finding(check, host, "ok", f"within {SKEW_S:g} s of this machine's")]
    found = f"the issuer's clock is {span(apart)} {'ahead of' if answer.ahead_s > 0 else 'behind'} this machine's"
    if apart < TOO_MUCH_S:
        return [Finding(check, host, "warning", found, "synchronise both by NTP")]
    return [
        Finding(
            check, host, "problem", f"{found}: valid tokens are refused, expired ones pass", "synchronise both by NTP"
        )
    ]


def _in_the_clear(check: str, url: str) -> list[Finding]:
    if not is_in_the_clear(url):
        return []
    found = "http: an attacker on the network can forge the answers and so grant access"
    return [Finding(check, masked_url(url), "warning", found, "use https")]


async def _ask(session: ClientSession, method: str, url: str, **more: Any) -> Answer:
    """Raises NoAnswerError."""
    try:
        async with session.request(method, url, allow_redirects=False, **more) as response:
            now = time.time()
            body = await read_at_most(response.content, MAX_BYTES)
            status, date = response.status, response.headers.get("Date")
    except TimeoutError as error:
        raise NoAnswerError("timeout") from error
    except (ClientError, OSError, ValueError) as error:
        raise NoAnswerError(masked_urls(str(error), url) or type(error).__name__) from error
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    return Answer(status, parsed, _ahead(date, now))


def _ahead(date: str | None, now: float) -> float | None:
    try:
        # A Date has whole seconds, rounded down.
        return None if date is None else parsedate_to_datetime(date).timestamp() + 0.5 - now
    except ValueError:
        return None
