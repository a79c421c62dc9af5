"""The common part of Janssen's and Gluu's statistics: months, metrics text, errors, health check."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal
from urllib.parse import unquote_plus

import orjson
from aiohttp import web

from api.cache.cache import ResponseBody
from api.http.errors import ApiError, BadRequestError, ErrorBody, InsufficientScopeError, UnauthorizedError
from api.ledger.client import UNREACHABLE, Client
from api.ledger.statistics import MonthFigures, Statistics
from api.settings.checks import Shape
from schemas.ledger.periods import Month

JSON: Final = "application/json"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"

MAX_MONTHS: Final = 120
"""Ten years: the bound on one question's cost."""
MAX_SHOWN_CHARS: Final = 50
"""Of a bad item in an error."""

TOKEN_FAMILIES: Final = {
    "refresh_token": "Refresh Token",
    "id_token": "Id Token",
    "access_token": "Access Token",
    "uma_token": "UMA Token",
}
"""The token types listed for every grant, with the HELP texts of their metric families."""

ERRORS: Final = {
    400: "invalid_request",
    401: "access_denied",
    403: "access_denied",
    404: "not_found",
    405: "method_not_allowed",
    500: "server_error",
    503: "temporarily_unavailable",
}

SOURCE_DESCRIPTIONS: Final = {
    "invalid_request": "The request is missing a required parameter, includes an unsupported parameter or parameter "
    "value, repeats a parameter, includes multiple credentials, utilizes more than one mechanism for authenticating "
    "the client, or is otherwise malformed.",
}
"""The products' own error descriptions; an error without one is described by its name."""

LISTS: Final = ("month",)
"""Parameters that a request of the documented shape may repeat, as Prometheus writes lists."""

Format = Literal["json", "jsonmonth", "openmetrics"]

FIGURES: Final = list[MonthFigures]


@dataclass(frozen=True)
class StatQuestion:
    """Months in calendar order, each once."""

    months: tuple[Month, ...]
    format: Format

    @property
    def is_wide(self) -> bool:
        return False

    @property
    def key(self) -> str:
        return " ".join(month.compact for month in self.months)

    @property
    def form(self) -> str:
        return self.format

    def is_partial(self, figures: Sequence[MonthFigures]) -> bool:
        return len(figures) < len(self.months)

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> list[MonthFigures]:
        return await statistics.months(self.months, realms)


BLANK: Final = "`month` can't be blank and should be in format yyyyMM (e.g. 202012)."


def parameter(parameters: Mapping[str, str], name: str) -> str:
    """A parameter's text without surrounding blanks; empty if absent."""
    return parameters.get(name, "").strip()


def month(text: str, name: str) -> Month:
    try:
        return Month.parse(text)
    except ValueError as error:
        raise BadRequestError(f"`{name}` should be in format yyyyMM (e.g. 202012): {error}.") from error


def listed_months(text: str, shape: Shape, unidentified: str = BLANK) -> tuple[Month, ...]:
    """The months of `month`: six characters each, separated by a space. Raises BadRequestError.

    As in the products, the value is decoded a second time, so that `%2520` separates too. An item that is not a month
    is an error in the documented shape. The source shape drops it; only items of another length leave the list empty,
    which is an error there: `unidentified` is the product's message.
    """
    items = [item.strip() for item in unquote_plus(text).split(" ")]
    candidates = dict.fromkeys(item for item in items if (item if shape == "documented" else len(item) == 6))
    if not candidates:
        raise BadRequestError(unidentified)
    months = []
    for candidate in candidates:
        try:
            months.append(Month.parse(candidate))
        except ValueError as error:
            if shape == "documented":
                raise BadRequestError(
                    f"`month` should be in format yyyyMM (e.g. 202012): {candidate[:MAX_SHOWN_CHARS]} is not a month."
                ) from error
    return _bounded(sorted(months))


def range_of_months(first: Month, last: Month) -> tuple[Month, ...]:
    """The months from `first` to `last`, both included. Raises BadRequestError."""
    if last < first:
        raise BadRequestError(f"`start-month` ({first.compact}) is after `end-month` ({last.compact}).")
    return _bounded(first.until(last))


def _bounded(months: Sequence[Month]) -> tuple[Month, ...]:
    if len(months) > MAX_MONTHS:
        raise BadRequestError(f"A request may name at most {MAX_MONTHS} months.")
    return tuple(months)


def tokens_per_grant(figures: MonthFigures, shape: Shape) -> dict[str, dict[str, int]]:
    """All four documented types for every grant. The source shape adds the undocumented types."""
    document = {}
    for grant, tokens in figures.tokens.items():
        document[grant] = {name: tokens.get(name, 0) for name in TOKEN_FAMILIES}
        if shape == "source":
            document[grant] |= tokens
    return document


def json_body(document: object) -> ResponseBody:
    return ResponseBody(orjson.dumps(document), JSON)


def metrics_body(figures: Sequence[MonthFigures], shape: Shape, label_end: str = "") -> ResponseBody:
    """Prometheus text format 0.0.4. `label_end` ends the label sets of the documented shape.

    The source shape copies the products: label sets end in a comma, numbers are Java's, and the content type is JSON,
    which Prometheus 3 refuses.
    """
    number, end = (java_double, ",") if shape == "source" else (plain_double, label_end)
    users = [(_labels(month=row.month.compact), row.active.count) for row in figures]
    families = [("monthly_active_users", "Monthly active users", users)]
    for name, help_text in TOKEN_FAMILIES.items():
        tokens = [
            (_labels(month=row.month.compact, grantType=grant), counts.get(name, 0))
            for row in figures
            for grant, counts in row.tokens.items()
        ]
        families.append((name, help_text, tokens))
    lines = [
        line
        for name, help_text, samples in families
        for line in (
            f"# HELP {name} {help_text}\n",
            f"# TYPE {name} counter\n",
            *(f"{name}{{{labels}{end}}} {number(value)}\n" for labels, value in samples),
        )
    ]
    content_type = JSON if shape == "source" else METRICS
    return ResponseBody("".join(lines).encode(), content_type)


def _labels(**labels: str) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    # A grant type is any text from an event.
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def plain_double(value: int) -> str:
    return f"{value}.0"


def java_double(value: int) -> str:
    """Java's Double.toString of a whole number: `144.0`, and from ten million on `1.939497078E9`."""
    if value < 10_000_000:
        return plain_double(value)
    _, digits, exponent = Decimal(repr(float(value))).normalize().as_tuple()
    text = "".join(map(str, digits))
    return f"{text[0]}.{text[1:] or '0'}E{len(text) - 1 + int(exponent)}"


class StatErrors:
    """The errors of one of the two products, in the shape of its document or of its source.

    `error_description` is the message. In the source shape it is the product's own text; `reason`, the message, follows
    if STAT_ERROR_REASON is on, as with the products' `errorReasonEnabled`.
    """

    def __init__(self, shape: Shape, scope: str, *, reasons: bool) -> None:
        self._shape = shape
        self._scope = scope
        self._reasons = reasons

    def render(self, error: ApiError) -> ErrorBody:
        name = ERRORS[error.status]
        if self._shape == "documented":
            return ErrorBody(orjson.dumps({"error": name, "error_description": error.message}), JSON, error.status)
        # The members' order and the indent are those of the products' org.json.
        document = {"reason": self._reason(error)} if self._reasons else {}
        document |= {"error_description": SOURCE_DESCRIPTIONS.get(name, name), "error": name}
        return ErrorBody(json.dumps(document, indent=4, ensure_ascii=False).encode(), JSON, error.status)

    def _reason(self, error: ApiError) -> str:
        if isinstance(error, InsufficientScopeError):
            return f"{self._scope} scope is required for token."
        # One text for unknown, expired and malformed tokens, where the products have three.
        return "Can't find grant for authorization." if isinstance(error, UnauthorizedError) else error.message


def health_check(ledger: Client) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Always 200, as in the products; `db_status` is the store's state."""

    async def answer(_: web.Request) -> web.Response:
        try:
            await ledger.ping()
            db_status = "online"
        except UNREACHABLE:
            db_status = "offline"
        return web.Response(
            body=orjson.dumps({"status": "running", "db_status": db_status}),
            content_type=JSON,
            headers={"Cache-Control": "no-store"},
        )

    return answer
