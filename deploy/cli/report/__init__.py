"""`authtally report`: print answers of a running api in the terminal."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.cli.json_output import print_json
from deploy.cli.report.tables import TABLES
from schemas.connections.urls import masked_url, split_url
from schemas.settings import PREFIX

TIMEOUT_S: Final = 30.0
REPEATS: Final = 8
MAX_WAIT_S: Final = 2
"""Longest Retry-After for which the command waits itself."""
MAX_BYTES: Final = 64 << 20
WRONG_QUESTION: Final = 2
SCOPE: Final = "stats:read"

_LIFECYCLE: Final = ("from", "to", "granularity", "group_by", "realm", "client_id", "region")
_WINDOW: Final = ("from", "to", "granularity", "group_by", "limit", "realm", "client_id", "node", "region")
QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "overview": ("date", "region"),
    "active-users": _WINDOW,
    "lifecycle": _LIFECYCLE,
    "retention": (*_LIFECYCLE, "cohort", "ages"),
    "logins": _WINDOW,
    "tokens": _WINDOW,
    "accounts": _WINDOW,
    "m2m": ("month", "realm", "limit", "region"),
    "otp-tokens": ("from", "to", "realm"),
    "pipeline": ("region",),
}
"""Each question is a route under `/v1`, with the parameters that it takes."""


class ReportSettings(BaseSettings):
    """Address of the api, and the token for it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    url: str = Field("http://127.0.0.1:8080", description="Address of the api, for `authtally report`.")
    token: SecretStr = Field(SecretStr(""), description="Bearer token, for `authtally report`.")

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        return http_url(url)


def http_url(url: str) -> str:
    """The URL of an api without a trailing slash. Raises ValueError if it is not one."""
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be the http:// or https:// URL of an api, without a query")
    return url.rstrip("/")


class Api(NamedTuple):
    url: str
    token: str

    @property
    def shown(self) -> str:
        """The URL for error texts."""
        return masked_url(self.url)


class WrongQuestionError(click.ClickException):
    """The api answered 400: it does not understand the question, or cannot answer it."""

    exit_code = WRONG_QUESTION


class _NoRedirects(HTTPRedirectHandler):
    """Never follows redirects: the target would receive the token."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        return None


def report(api: Api, question: str, parameters: Mapping[str, str], *, as_json: bool) -> None:
    """Ask the api and print its answer. Raises click.ClickException, with exit status 2 for a wrong question."""
    known = QUESTIONS[question]
    for name in parameters:
        if name not in known:
            others = ", ".join("--" + each.replace("_", "-") for each in known)
            raise click.UsageError(f"{question} takes no --{name.replace('_', '-')}; it takes {others or 'none'}")
    answer = ask(api, f"/v1/{question}", parameters)
    if as_json:
        print_json(answer)
        return
    try:
        TABLES[question](answer)
    except (KeyError, TypeError, AttributeError) as error:
        raise click.ClickException(
            f"{api.shown} returned an answer that this version cannot print ({type(error).__name__}: {error}); "
            "--json prints it unchanged"
        ) from error


def token_of(settings: ReportSettings, file: str | None) -> str:
    """The token from a file or the environment; empty if there is none. Raises click.ClickException."""
    named = f"--token-file {file}" if file else f"{PREFIX}TOKEN"
    if file is None:
        token = settings.token.get_secret_value().strip()
    else:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"{named}: {getattr(error, 'strerror', None) or 'not text'}") from error
        if not token:
            raise click.ClickException(f"{named}: is empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise click.ClickException(
            f"{named}: is not a bearer token: it contains spaces, line breaks or characters beyond ASCII"
        )
    return token


class BusyError(click.ClickException):
    """The api asks for a pause."""

    def __init__(self, why: str, wait_s: int) -> None:
        super().__init__(why)
        self.wait_s = wait_s


def ask(api: Api, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The answer's JSON. Raises click.ClickException with the remedy.

    A question that misses the api's deadline is repeated: the api keeps what it has merged by then.
    """
    for _ in range(REPEATS):
        try:
            return _ask_once(api, path, parameters)
        except BusyError as busy:
            if not 0 < busy.wait_s <= MAX_WAIT_S:
                raise
            time.sleep(busy.wait_s)
    return _ask_once(api, path, parameters)


def _ask_once(api: Api, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    url = f"{api.url}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api.token}"} if api.token else {})
    try:
        with build_opener(_NoRedirects).open(Request(url, headers=headers), timeout=TIMEOUT_S) as response:  # noqa: S310
            body = response.read(MAX_BYTES + 1)
    except HTTPError as error:
        with error:
            raise refusal(api, error.code, dict(error.headers.items()), error.read(1 << 16)) from error
    except (TimeoutError, URLError, HTTPException, OSError) as error:
        raise click.ClickException(f"{PREFIX}URL: no answer from {api.shown}: {_why(error)}") from error
    if len(body) > MAX_BYTES:
        raise click.ClickException(f"the answer is longer than {MAX_BYTES >> 20} MB: ask for fewer periods or groups")
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise click.ClickException(f"{PREFIX}URL: {api.shown} is not an api of authtally: its answer is no JSON object")
    return answer


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, (TimeoutError, socket.timeout)):
        return f"timeout after {TIMEOUT_S:g} s"
    return str(getattr(reason, "strerror", None) or reason)


def refusal(api: Api, status: int, headers: Mapping[str, str], body: bytes) -> click.ClickException:
    """The error for an answer that is not 200, with the remedy."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    detail = str(problem.get("detail", "")) if isinstance(problem, dict) else ""
    if status == 401:
        why = "does not accept the token" if api.token else "asks for a token"
        return click.ClickException(f"{api.shown} {why}: set {PREFIX}TOKEN or --token-file to one with scope {SCOPE}")
    if status == 403:
        return click.ClickException(f"{api.shown} does not allow this token to read it: {detail or f'needs {SCOPE}'}")
    if status in (429, 503):
        wait = headers.get("Retry-After", "")
        result = detail or ("too many requests." if status == 429 else "the ledger cannot be read now.")
        why = f"{api.shown}: {result}" + (f" Try again in {wait} s." if wait else "")
        return BusyError(why, int(wait) if wait.isdecimal() else 0)
    if status == 400 and detail:
        return WrongQuestionError(detail)
    if status in (301, 302, 303, 307, 308):
        return click.ClickException(
            f"{PREFIX}URL: {api.shown} redirects to {masked_url(headers.get('Location') or '')}: use that address"
        )
    if status == 404:
        return click.ClickException(f"{PREFIX}URL: {api.shown} has no /v1: is it an api of authtally of this version?")
    return click.ClickException(f"{api.shown} answers with status {status}" + (f": {detail}" if detail else ""))
