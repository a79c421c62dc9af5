"""LinOTP's reporting: `/reporting/…` and the sessions that its clients ask it with.

The shape is that of its document; `LINOTP_SHAPE=source` gives what the server really answers. Nothing is cached: an
answer right after a delete is without what was deleted.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Final, NamedTuple

import structlog
from aiohttp import hdrs, web

from api.auth.principal import Bearer
from api.auth.sessions import Sessions
from api.dialects.linotp import envelope, parameters, show
from api.dialects.linotp.errors import missing_policy, refusal
from api.endpoint import MAX_QUERY_BYTES, Services, form_of, parameters_of, route_of
from api.http.errors import BadQuestion, Fault, NotAuthorized, Unavailable, Unexpected
from api.http.request_id import REQUEST_ID, named, request_id_of
from api.inventory.deletes import delete
from api.inventory.inventory import GoneError, Inventory, Stream
from api.inventory.maxima import Days, Highest, maxima
from api.inventory.policy_history import PolicyFile
from api.inventory.table import table
from api.ledger.client import UNREACHABLE
from api.metrics import ACCESS_REFUSALS, REDIS_ERRORS, Requests
from api.settings.settings import ApiSettings
from schemas.ledger.inventory import NO_REALM, micros

log = structlog.get_logger(__name__)

NAME: Final = "linotp"
SCOPE: Final = "reporting"
COOKIE: Final = "admin_session"
DEADLINE_S: Final = 10.0
"""For an answer to begin. A Redis that is gone is noticed by its own, shorter time."""
TRIES: Final = 3
"""Of a question whose rows are deleted while it is answered."""

Given = Mapping[str, str]


class Asked(NamedTuple):
    """A request whose bearer may do this, on these realms."""

    request: web.Request
    given: Given
    realms: list[str]
    streams: list[Stream]
    headers: Mapping[str, str]


Answer = Callable[[Asked], Awaitable[web.StreamResponse]]


class Reporting:
    """The routes, and what they share."""

    def __init__(self, settings: ApiSettings, services: Services) -> None:
        self._shape = settings.linotp_shape
        self._open = "none" in settings.auth
        self._zone = settings.zone
        self._services = services
        self._clock = services.clock.now
        self._inventory = Inventory(services.ledger, services.statistics)
        self._policies = PolicyFile(
            settings.reporting_policy_file, services.ledger, settings.key_prefix, services.clock
        )
        self._sessions = Sessions(settings.reporting_session_s, settings.key_prefix, services.clock, services.shared)
        self.watching = self._policies.watching

    def routes(self) -> list[web.RouteDef]:
        asking: dict[str, Answer] = {"show": self._show, "period": self._period, "maximum": self._maximum}
        deleting: dict[str, Answer] = {"delete_all": self._delete_all, "delete_before": self._delete_before}
        found = []
        for action, answer in (asking | deleting).items():
            handle, path = self._reporting(action, answer), f"/reporting/{action}"
            found.append(web.post(path, handle))
            if action in asking or self._shape == "documented":
                # HEAD would delete too.
                found.append(web.get(path, handle, allow_head=False))
        for action, handler in (("getsession", self._get_session), ("dropsession", self._drop_session)):
            handle, path = self._served(action, handler), f"/admin/{action}"
            found += [web.post(path, handle), web.get(path, handle, allow_head=False)]
        return found

    def _reporting(self, action: str, answer: Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request, given: Given, headers: Mapping[str, str]) -> web.StreamResponse:
            bearer = await self._bearer(request, given)
            await self._policies.refresh()
            allowed = self._policies.policies.realms(bearer.subject, action)
            if allowed is None:
                ACCESS_REFUSALS.labels("policy").inc()
                raise missing_policy(action)
            for left in reversed(range(TRIES)):
                streams = await self._inventory.streams()
                known = list(dict.fromkeys(stream.realm for stream in streams))
                realms = parameters.realms(given, known, allowed, bearer)
                chosen = set(realms)
                mine = [stream for stream in streams if stream.realm in chosen]
                try:
                    return await answer(Asked(request, given, realms, mine, headers))
                except GoneError:
                    if not left:
                        break
            raise Unavailable("Rows are being deleted while they are read.")

        return self._served(action, handle)

    def _served(
        self,
        action: str,
        handle: Callable[[web.Request, Given, Mapping[str, str]], Awaitable[web.StreamResponse]],
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        measured = Requests(NAME)

        async def answer(request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
            given: Given = {}
            response: web.StreamResponse
            try:
                given = await _given(request)
                response = await handle(request, given, headers)
            except Fault as fault:
                response = refusal(fault, action, given, self._shape)
            except (*UNREACHABLE, TimeoutError):
                REDIS_ERRORS.labels("ledger").inc()
                response = refusal(
                    Unavailable("The inventory cannot be read at the moment."), action, given, self._shape
                )
            except Exception:  # the outermost step: whatever it is, the client sees none of it
                log.exception("request failed", dialect=NAME)
                response = refusal(Unexpected(), action, given, self._shape)
            if not response.prepared:
                response.headers.update(headers)
            return response

        async def serve(request: web.Request) -> web.StreamResponse:
            began, status = measured.begin(), 500
            request_id = request_id_of(request.headers)
            try:
                with named(request_id):
                    response = await answer(request, {REQUEST_ID: request_id})
                status = response.status
                return response
            finally:
                measured.end(began, route_of(request), status)

        return serve

    # Access.

    async def _bearer(self, request: web.Request, given: Given) -> Bearer:
        """A bearer token, or a session whose cookie and parameter agree: no other site can make both."""
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        if authorization is None and not self._open:
            session_id = self._session_id(request, given)
            if session_id is not None:
                bearer = await self._sessions.bearer(session_id)
                if bearer is None:
                    ACCESS_REFUSALS.labels("session").inc()
                    raise NotAuthorized
                return bearer
        bearer, _ = await self._services.access.bearer(authorization, SCOPE)
        return bearer

    def _session_id(self, request: web.Request, given: Given) -> str | None:
        """None where there is neither cookie nor parameter. Raises NotAuthorized where they differ."""
        cookie, parameter = request.cookies.get(COOKIE), given.get("session")
        if cookie is None and parameter is None:
            return None
        if not hmac.compare_digest((cookie or "").encode(errors="replace"), (parameter or "").encode(errors="replace")):
            ACCESS_REFUSALS.labels("session").inc()
            raise NotAuthorized
        return cookie or ""

    async def _get_session(self, request: web.Request, given: Given, headers: Mapping[str, str]) -> web.StreamResponse:
        bearer, _ = await self._services.access.bearer(request.headers.get(hdrs.AUTHORIZATION), SCOPE)
        opened = await self._sessions.open(bearer)
        response = self._told(True)
        response.set_cookie(
            COOKIE,
            opened.id,
            path="/",
            max_age=max(0, int(opened.expires - self._clock())),
            secure=request.secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    async def _drop_session(self, request: web.Request, given: Given, _: Mapping[str, str]) -> web.StreamResponse:
        session_id = self._session_id(request, given)
        if session_id is None:
            raise NotAuthorized
        await self._sessions.drop(session_id)
        response = self._told(True)
        response.del_cookie(COOKIE, path="/")
        return response

    # Questions.

    async def _show(self, asked: Asked) -> web.StreamResponse:
        since = parameters.day(asked.given, "date")
        since_us = None if since is None else micros(datetime.combine(since, time(), self._zone))
        async with asyncio.timeout(DEADLINE_S):
            recorded = await self._policies.recorded()
            found = await table(self._inventory, asked.streams, recorded, parameters.shown(asked.given), since_us)
            names = await self._inventory.names(asked.streams)
            shown = show.asked(asked.given, found, names, self._shape, self._zone)
            parts = shown.parts(self._inventory)
            first = await anext(parts)
        return await show.sent(asked.request, parts, first, shown.form, asked.headers)

    async def _period(self, asked: Asked) -> web.StreamResponse:
        statuses = parameters.counted(asked.given, self._shape)
        days = parameters.window(asked.given, self._today())
        highest = await self._highest(asked, statuses, days)

        def told(one: Highest) -> int | None:
            if one.highest is not None:
                return one.highest
            return None if one.last_before is None else one.last_before[1]

        rows = [
            {
                "name": realm,
                "maxtokencount": {name: told(highest.get((realm, of), Highest(None))) for name, of in statuses.items()},
            }
            for realm in self._grouped(asked.realms)
        ]
        period = {name: f"{day.isoformat()}T00:00:00" for name, day in zip(("from", "to"), days, strict=True)}
        if self._shape == "documented":
            return self._told({"period": period, "realms": rows})
        return self._told({"realms": rows, "period": period})

    async def _maximum(self, asked: Asked) -> web.StreamResponse:
        statuses = parameters.counted(asked.given, self._shape)
        highest = await self._highest(asked, statuses, parameters.window({}, self._today()))
        nothing = Highest(None)

        def told(realm: str, of: int) -> int:
            found = highest.get((realm, of), nothing).highest
            return -1 if found is None else found

        return self._told(
            {realm: {name: told(realm, of) for name, of in statuses.items()} for realm in self._grouped(asked.realms)}
        )

    async def _highest(self, asked: Asked, statuses: Mapping[str, int], days: Days) -> dict[tuple[str, int], Highest]:
        async with asyncio.timeout(DEADLINE_S):
            recorded = await self._policies.recorded()
            found = await table(self._inventory, asked.streams, recorded, set(statuses.values()))
            return await maxima(self._inventory, found, days, self._zone)

    async def _delete_all(self, asked: Asked) -> web.StreamResponse:
        return await self._delete(asked, parameters.deleted(asked.given, self._shape, all_of=True), None)

    async def _delete_before(self, asked: Asked) -> web.StreamResponse:
        before = parameters.day(asked.given, "date")
        if before is None:
            raise BadQuestion("Missing parameter: 'date'")
        return await self._delete(asked, parameters.deleted(asked.given, self._shape, all_of=False), before)

    async def _delete(self, asked: Asked, statuses: frozenset[int], before: date | None) -> web.StreamResponse:
        recorded = await self._policies.recorded()
        count = await delete(self._inventory, asked.streams, recorded, statuses, before, self._zone)
        if count:
            log.info("reporting rows deleted", rows=count, realms=len(asked.realms))
        return self._told(count)

    def _grouped(self, realms: Sequence[str]) -> list[str]:
        """The document tells tokens without a realm in `show` only."""
        return [realm for realm in realms if self._shape == "source" or realm != NO_REALM]

    def _today(self) -> date:
        """The product's window ends with the day in UTC."""
        zone = UTC if self._shape == "source" else self._zone
        return datetime.fromtimestamp(self._clock(), zone).date()

    def _told(self, value: object) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: envelope.JSON, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=envelope.succeeded(value, self._shape), headers=headers)


async def _given(request: web.Request) -> Given:
    """Parameters of the query, and of a form; where both have one, the form's."""
    query = request.rel_url.raw_query_string
    if len(query) > MAX_QUERY_BYTES:
        raise BadQuestion(f"The query is longer than {MAX_QUERY_BYTES} bytes.")
    given = parameters_of(query)
    return given | parameters_of(await form_of(request)) if request.method == "POST" else given
