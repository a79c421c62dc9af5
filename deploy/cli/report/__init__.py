"""`authtally report`: what a running api answers, in the terminal."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.cli.json_output import print_json
from deploy.cli.report.tables import TABLES
from schemas.settings import PREFIX

TIMEOUT_S: Final = 30.0
MAX_BYTES: Final = 64 << 20
WRONG_QUESTION: Final = 2
SCOPE: Final = "stats:read"

_WINDOW: Final = ("from", "to", "granularity", "group_by", "limit", "realm", "client_id", "node")
QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "overview": ("date",),
    "active-users": _WINDOW,
    "logins": _WINDOW,
    "tokens": _WINDOW,
    "accounts": _WINDOW,
    "m2m": ("month", "realm", "limit"),
    "pipeline": (),
}
"""Each is a route under `/v1`, and these are the parameters that it takes."""


class ReportSettings(BaseSettings):
    """Where the api is, and who asks."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    url: str = Field("http://127.0.0.1:8080", description="For `authtally report`: where the api answers.")
    token: SecretStr = Field(SecretStr(""), description="For `authtally report`: the bearer token.")

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        return http_url(url)


def http_url(url: str) -> str:
    """Raises ValueError when it is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be the http:// or https:// URL of an api, without a query")
    return url.rstrip("/")


class Api(NamedTuple):
    url: str
    token: str


class _NoRedirects(HTTPRedirectHandler):
    """Following one would hand the token to whoever it names."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        return None


def report(api: Api, question: str, parameters: Mapping[str, str], *, as_json: bool) -> None:
    """Ask, and print the answer. Raises click.ClickException, with status 2 when the question is at fault."""
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
            f"{api.url} answers in a form that this version cannot show ({type(error).__name__}: {error}); "
            "--json shows it as it is"
        ) from error


def token_of(settings: ReportSettings, file: str | None) -> str:
    """The token of a file, or of the environment; empty where there is none. Raises click.ClickException."""
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
        raise click.ClickException(f"{named}: is no bearer token: it has spaces, line breaks or letters beyond ASCII")
    return token


def ask(api: Api, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The answer's JSON. Raises click.ClickException that says what to change."""
    url = f"{api.url}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api.token}"} if api.token else {})
    try:
        with build_opener(_NoRedirects).open(Request(url, headers=headers), timeout=TIMEOUT_S) as response:  # noqa: S310
            body = response.read(MAX_BYTES + 1)
    except HTTPError as error:
        with error:
            raise refusal(api, error.code, dict(error.headers.items()), error.read(1 << 16)) from error
    except (TimeoutError, URLError, HTTPException, OSError) as error:
        raise click.ClickException(f"{PREFIX}URL: no answer from {api.url}: {_why(error)}") from error
    if len(body) > MAX_BYTES:
        raise click.ClickException(f"the answer is longer than {MAX_BYTES >> 20} MB: ask for fewer periods or groups")
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise click.ClickException(f"{PREFIX}URL: {api.url} is no api of authtally: it answers no JSON object")
    return answer


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, (TimeoutError, socket.timeout)):
        return f"nothing within {TIMEOUT_S:g} s"
    return str(getattr(reason, "strerror", None) or reason)


def refusal(api: Api, status: int, headers: Mapping[str, str], body: bytes) -> click.ClickException:
    """What a refused question means for who asked it."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    detail = str(problem.get("detail", "")) if isinstance(problem, dict) else ""
    if status == 401:
        why = "does not accept the token" if api.token else "asks for a token"
        return click.ClickException(f"{api.url} {why}: set {PREFIX}TOKEN or --token-file to one with scope {SCOPE}")
    if status == 403:
        return click.ClickException(f"{api.url} refuses this to the token: {detail or f'it needs scope {SCOPE}'}")
    if status in (429, 503):
        wait = headers.get("Retry-After")
        result = detail or ("it is busy." if status == 429 else "it cannot read its figures now.")
        return click.ClickException(f"{api.url}: {result}" + (f" Try again in {wait} s." if wait else ""))
    if status == 400 and detail:
        wrong = click.ClickException(detail)
        wrong.exit_code = WRONG_QUESTION
        return wrong
    if status in (301, 302, 303, 307, 308):
        return click.ClickException(f"{PREFIX}URL: {api.url} redirects to {headers.get('Location')}: name that instead")
    if status == 404:
        return click.ClickException(f"{PREFIX}URL: {api.url} has no /v1: is it an api of authtally of this version?")
    return click.ClickException(f"{api.url} answers with status {status}" + (f": {detail}" if detail else ""))
