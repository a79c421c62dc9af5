"""LinOTP's reporting: `/reporting/…`, and the sessions that its clients use.

The shape follows its documentation; `LINOTP_SHAPE=source` reproduces the real server's answers. Nothing is cached, so
that an answer after a delete never contains deleted rows.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Final, NamedTuple

import structlog
from aiohttp import hdrs, web

from api.audit import AuditLog
from api.auth.basic import basic_credentials
from api.auth.linotp_sessions import COOKIE, LinotpSessions
from api.auth.principal import Principal
from api.auth.sessions import Sessions
from api.boundary import Boundary, Headers
from api.dialects.linotp import counts, envelope, parameters, show
from api.dialects.linotp.counts import CountsQuestion, HighestCounts
from api.dialects.linotp.errors import MethodError, UnknownPathError, policy_error, render_error
from api.endpoint import Services, parse_parameters, read_form, read_query
from api.http.errors import ForbiddenError, UnauthorizedError, UnavailableError
from api.http.places import Places, is_gone
from api.inventory.deletes import delete
from api.inventory.inventory import Inventory, RowsDeletedError, Stream
from api.inventory.policy_history import PolicyFile
from api.ledger.client import UNREACHABLE
from api.metrics import ACCESS_REFUSALS, REDIS_ERRORS
from api.settings.settings import ApiSettings
from api.turns import arrive
from api.unmatched import Surface
from schemas.ledger.inventory import WRITTEN_STATUSES
from schemas.settings import PREFIX

log = structlog.get_logger(__name__)

NAME: Final = "linotp"
SCOPE: Final = "reporting"
DEADLINE_S: Final = 10.0
"""The time until an answer must begin. An unreachable Redis is detected earlier, by its own timeout."""
SORTED_S: Final = 60.0
"""The time in which a caller must have read a sorted answer, whose rows stay in memory until then."""
MAX_SORTS: Final = 4
"""Most sorted answers at the same time, each with up to 100,000 rows: 30 MB."""
MAX_READS: Final = 16
"""Most other answers at the same time: up to 20 MB for a thousand realms. One caller may have half of the places."""
TRIES: Final = 3
"""Attempts to answer a question whose rows are deleted meanwhile."""

DELETES: Final = ("delete_all", "delete_before")

Parameters = Mapping[str, str]


class ReportRequest(NamedTuple):
    """An authorized request, with the realms and streams that it may use."""

    request: web.Request
    parameters: Parameters
    realms: list[str]
    streams: list[Stream]
    headers: Mapping[str, str]
    principal: Principal

    def is_gone(self) -> bool:
        return is_gone(self.request)


ReportHandler = Callable[[ReportRequest], Awaitable[web.StreamResponse]]


class Reporting:
    """The routes and their shared services."""

    def __init__(self, settings: ApiSettings, services: Services) -> None:
        self._shape = settings.linotp_shape
        self._open = "none" in settings.auth
        self._may_delete = not self._open or settings.auth_none_writes
        self._secure_cookie = settings.secure_cookies
        self._zone = settings.zone
        self._realms = settings.linotp_realms
        self._services = services
        self._boundary = Boundary(NAME)
        self._audit = AuditLog(services.ledger, settings.key_prefix)
        self._clock = services.clock.now
        self._inventory = Inventory(services.ledger, services.statistics)
        self._sorts, self._reads = Places(MAX_SORTS, MAX_SORTS // 2), Places(MAX_READS, MAX_READS // 2)
        self._policies = PolicyFile(
            settings.reporting_policy_file, services.ledger, settings.key_prefix, services.clock
        )
        self._sessions = Sessions(settings.reporting_session_s, settings.key_prefix, services.clock, services.shared)
        self._linotp = LinotpSessions(settings.linotp_url, SCOPE, services.clock) if settings.linotp_url else None
        self.lifespans = [self._policies.watch_lifespan, *(() if self._linotp is None else (self._linotp.lifespan,))]

    def surface(self) -> Surface:
        return Surface(("/reporting", "/admin"), partial(render_error, "", {}, self._shape))

    def routes(self) -> list[web.RouteDef]:
        asking: dict[str, ReportHandler] = {"show": self._show, "period": self._period, "maximum": self._maximum}
        deleting: dict[str, ReportHandler] = {"delete_all": self._delete_all, "delete_before": self._delete_before}
        found = []
        for action, answer in (asking | deleting).items():
            handle, path = self._report_handler(action, answer), f"/reporting/{action}"
            found.append(web.post(path, handle))
            if action in asking or self._shape == "documented":
                # A HEAD runs the handler: it must not delete.
                found.append(web.get(path, handle, allow_head=action in asking))
        for action, handler in (("getsession", self._get_session), ("dropsession", self._drop_session)):
            handle, path = self._handler(action, handler), f"/admin/{action}"
            found += [web.post(path, handle), web.get(path, handle, allow_head=False)]
        unmatched = self._handler("", partial(_unmatched, [*asking, *deleting]))
        found.append(web.route("*", "/reporting/{action}", unmatched))
        return found

    def _report_handler(
        self, action: str, answer: ReportHandler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request, arguments: Parameters, headers: Mapping[str, str]) -> web.StreamResponse:
            if action in DELETES and not self._may_delete:
                raise ForbiddenError(f"{PREFIX}AUTH=none allows no deletes; {PREFIX}AUTH_NONE_WRITES=on allows it.")
            principal = await self._authenticate(request, arguments)
            await self._policies.refresh()
            allowed = self._policies.policies.allowed_realms(principal.subject, action)
            if allowed is None:
                ACCESS_REFUSALS.labels("policy").inc()
                raise policy_error(action)
            for left in reversed(range(TRIES)):
                streams = await self._inventory.streams()
                known = parameters.known_realms(self._realms, dict.fromkeys(stream.realm for stream in streams))
                realms = parameters.allowed_realms(arguments, known, allowed, principal)
                chosen = set(realms)
                mine = [stream for stream in streams if stream.realm in chosen]
                try:
                    return await answer(ReportRequest(request, arguments, realms, mine, headers, principal))
                except RowsDeletedError:
                    if not left:
                        break
            raise UnavailableError("Rows are being deleted while they are read.")

        return self._handler(action, handle)

    def _handler(
        self,
        action: str,
        handle: Callable[[web.Request, Parameters, Mapping[str, str]], Awaitable[web.StreamResponse]],
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            arguments: dict[str, str] = {}

            async def answer(headers: Headers) -> web.StreamResponse:
                await arrive()
                try:
                    arguments.update(await _read_parameters(request))
                    return await handle(request, arguments, headers)
                except (*UNREACHABLE, TimeoutError) as error:
                    REDIS_ERRORS.labels("ledger").inc()
                    raise UnavailableError("The inventory cannot be read at the moment.") from error

            return await self._boundary.serve(request, answer, partial(render_error, action, arguments, self._shape))

        return serve

    # Access.

    async def _authenticate(self, request: web.Request, arguments: Parameters) -> Principal:
        """A bearer token, or a session whose cookie and parameter agree: another site cannot forge both (CSRF)."""
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        # Clients send the header with which they got their session, Basic or Digest, with every request.
        if not self._open and not (authorization or "").lower().startswith("bearer"):
            session_id = self._session_id(request, arguments)
            if session_id is not None:
                principal = await self._sessions.principal(session_id)
                if principal is None and self._linotp is not None:
                    principal = await self._linotp.principal(session_id, authorization)
                if principal is None:
                    ACCESS_REFUSALS.labels("session").inc()
                    raise UnauthorizedError
                return principal
        principal, _ = await self._services.access.authenticate(authorization, SCOPE, request.remote)
        return principal

    def _session_id(self, request: web.Request, arguments: Parameters) -> str | None:
        """None without cookie and parameter. Raises UnauthorizedError if they differ."""
        cookie, parameter = request.cookies.get(COOKIE), arguments.get("session")
        if cookie is None and parameter is None:
            return None
        if not hmac.compare_digest((cookie or "").encode(errors="replace"), (parameter or "").encode(errors="replace")):
            ACCESS_REFUSALS.labels("session").inc()
            raise UnauthorizedError
        return cookie or ""

    async def _get_session(
        self, request: web.Request, arguments: Parameters, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        if (credentials := basic_credentials(authorization)) is not None:
            # LinOTP's scripts sign in with a password: here it is the token.
            authorization = f"Bearer {credentials.password}"
        principal, _ = await self._services.access.authenticate(authorization, SCOPE, request.remote)
        opened = await self._sessions.open(principal)
        response = self._success(True)
        response.set_cookie(
            COOKIE,
            opened.id,
            path="/",
            max_age=max(0, int(opened.expires_at - self._clock())),
            secure=self._secure_cookie or request.secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    async def _drop_session(
        self, request: web.Request, arguments: Parameters, _: Mapping[str, str]
    ) -> web.StreamResponse:
        session_id = self._session_id(request, arguments)
        if session_id is None:
            raise UnauthorizedError
        await self._sessions.drop(session_id)
        response = self._success(True)
        response.del_cookie(COOKIE, path="/")
        return response

    # Questions.

    async def _show(self, asked: ReportRequest) -> web.StreamResponse:
        question = show.parse(asked.parameters, self._shape, self._zone)
        is_sorted = question.order.column is not None
        # A place is held until the answer is sent, because the rows stay in memory until then.
        async with (self._sorts if is_sorted else self._reads).take(asked.principal.subject, asked.is_gone):
            async with asyncio.timeout(DEADLINE_S):
                history = await self._policies.history(question.spelled)
                shown = await show.read(question, self._inventory, asked.streams, history, self._shape, self._zone)
                parts = shown.parts(self._inventory, asked.is_gone)
                first = await anext(parts)
            limit_s = SORTED_S if is_sorted else None
            return await show.send(asked.request, parts, first, shown.form, asked.headers, limit_s)

    async def _period(self, asked: ReportRequest) -> web.StreamResponse:
        question = counts.parse_period(asked.parameters, self._today(), self._shape)
        highest = await self._highest(asked, question)
        return self._success(counts.render_period(question, asked.realms, highest, self._shape))

    async def _maximum(self, asked: ReportRequest) -> web.StreamResponse:
        question = counts.parse_maximum(asked.parameters, self._today(), self._shape)
        highest = await self._highest(asked, question)
        return self._success(counts.render_maximum(question, asked.realms, highest, self._shape))

    async def _highest(self, asked: ReportRequest, question: CountsQuestion) -> HighestCounts:
        async with self._reads.take(asked.principal.subject, asked.is_gone), asyncio.timeout(DEADLINE_S):
            history = await self._policies.history()
            return await counts.read(question, self._inventory, asked.streams, history, self._shape, self._zone)

    async def _delete_all(self, asked: ReportRequest) -> web.StreamResponse:
        return await self._delete(asked, parameters.deleted_statuses(asked.parameters, self._shape, all_of=True), None)

    async def _delete_before(self, asked: ReportRequest) -> web.StreamResponse:
        before = parameters.deleted_before(asked.parameters, self._shape)
        return await self._delete(
            asked, parameters.deleted_statuses(asked.parameters, self._shape, all_of=False), before
        )

    async def _delete(self, asked: ReportRequest, statuses: frozenset[int], before: date | None) -> web.StreamResponse:
        history = await self._policies.history()
        count = await delete(self._inventory, asked.streams, history, statuses, before, self._zone)
        action = "reporting delete_all" if before is None else "reporting delete_before"
        deleted = {
            "realms": asked.realms,
            "statuses": [WRITTEN_STATUSES[status] for status in sorted(statuses)],
            "before": None if before is None else before.isoformat(),
        }
        await self._audit.record(action, asked.principal, deleted, count)
        return self._success(count)

    def _today(self) -> date:
        """Today; the real product's window ends with the day in UTC."""
        zone = UTC if self._shape == "source" else self._zone
        return datetime.fromtimestamp(self._clock(), zone).date()

    def _success(self, value: object) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: envelope.JSON, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=envelope.success(value, self._shape), headers=headers)


async def _unmatched(
    actions: Sequence[str], request: web.Request, arguments: Parameters, headers: Mapping[str, str]
) -> web.StreamResponse:
    """An unknown path, or a method that a known path does not accept."""
    action = request.match_info["action"]
    if action in actions:
        raise MethodError(f"{request.method} is not allowed for /reporting/{action}.")
    raise UnknownPathError(f"/reporting has no {action[:64]!r}, only {', '.join(actions)}.")


async def _read_parameters(request: web.Request) -> Parameters:
    """Parameters of the query and of a POST's form; the form's win."""
    arguments = parse_parameters(read_query(request))
    return arguments | parse_parameters(await read_form(request)) if request.method == "POST" else arguments
