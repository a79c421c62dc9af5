"""The ingest routes: authenticate the sender, read the body, convert it, send it to Kafka, and only then answer 202."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import ClientSession, ClientTimeout, web
from pydantic import SecretStr

from api.auth.jwks import Jwks
from api.auth.principal import Principal
from api.auth.rate_limit import RateLimit
from api.boundary import Boundary
from api.boundary import Headers as ResponseHeaders
from api.endpoint import Services
from api.http.errors import ApiError
from api.ingest.body import BoundedBody, InFlightBytes
from api.ingest.deliveries import Converter
from api.ingest.errors import RateLimitedError, UnsupportedMediaError, render_error
from api.ingest.responses import DeliveryResponses
from api.ingest.senders import SenderAuth
from api.ingest.signatures import BodyHashJwt, HmacSha256, Signature
from api.metrics import INGEST_REFUSALS
from api.settings.settings import ApiSettings
from schemas.adapters.elements import Adapter, Headers
from schemas.adapters.registry import ADAPTERS, adapter_named
from schemas.outgoing import topics_by_event
from schemas.settings import PREFIX

if TYPE_CHECKING:
    from api.ingest.producer import EventProducer

NAME: Final = "ingest"
EVENTS: Final = "events"
WEBHOOKS: Final = {"keycloak": "keycloak", "auth0": "auth0-logs", "fusionauth": "fusionauth"}
"""The webhook's name in its path and setting, and the adapter for its format."""
PATHS: Final = {EVENTS: "/v1/events"} | {name: f"/v1/ingest/{name}" for name in WEBHOOKS}

ID_ROUTES: Final = {EVENTS: "native"}
"""The route's name in event ids, where it is not that of its path."""

NATIVE_MEDIA: Final = frozenset(
    {"application/json", "application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines"}
)
CLOUD_EVENTS_MEDIA: Final = frozenset({"application/cloudevents+json", "application/cloudevents-batch+json"})
KEYS_TIMEOUT_S: Final = 5.0
CLOUD_EVENT: Final = "ce-specversion"
"""The header that marks binary mode (CloudEvents HTTP binding §3)."""


AdapterChoice = Callable[[web.Request], tuple[Adapter, Headers]]
"""Chooses the adapter for a request's body, and the headers that the adapter gets."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ingest:
    """The ingest routes. They accept nothing before `producer_lifespan` has opened the producer."""

    def __init__(self, settings: ApiSettings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._limit = None
        if settings.ingest_rate_limit:
            size, per_s = settings.ingest_rate_limit, settings.ingest_rate_per_s
            self._limit = RateLimit(NAME, size, per_s, settings.key_prefix, services.clock, services.shared)
        self._in_flight = InFlightBytes(settings.ingest_max_in_flight_bytes, settings.ingest_max_bytes)
        self._topics = topics_by_event(settings.topics)
        self._fusionauth_keys: Jwks | None = None
        self._producer: EventProducer | None = None

    def routes(self) -> list[web.RouteDef]:
        settings = self._settings
        sender_auth = partial(
            SenderAuth,
            access=self._services.access,
            open_to_all=settings.auth_none_writes,
            secret_header=settings.ingest_secret_header,
        )
        secret_of = {
            "keycloak": settings.ingest_keycloak_secret,
            "auth0": settings.ingest_auth0_secret,
            "fusionauth": settings.ingest_fusionauth_secret,
        }
        routes = [web.post(PATHS[EVENTS], self._handler(EVENTS, sender_auth(EVENTS, None), adapter_for))]
        for name, adapter in WEBHOOKS.items():
            senders = sender_auth(name, secret_of[name], signature=self._signature_of(name, secret_of[name]))
            handler = self._handler(name, senders, _always(adapter_named(adapter, settings.realm_names)))
            # Some listeners take a base URL and append a slash.
            routes += [web.post(PATHS[name] + slash, handler) for slash in ("", "/")]
        return routes

    def _signature_of(self, name: str, secret: SecretStr) -> Signature | None:
        text = secret.get_secret_value()
        if name == "keycloak" and text:
            return HmacSha256(text)
        if name == "fusionauth" and (text or self._settings.ingest_fusionauth_jwks_url):
            return BodyHashJwt(text, lambda: self._fusionauth_keys)
        return None

    async def keys_lifespan(self, _: web.Application) -> AsyncIterator[None]:
        """Fetch the keys of FusionAuth's signatures while the app runs."""
        url = self._settings.ingest_fusionauth_jwks_url
        if not url:
            yield
            return
        async with ClientSession(timeout=ClientTimeout(total=KEYS_TIMEOUT_S)) as session:
            setting = f"{PREFIX}INGEST_FUSIONAUTH_JWKS_URL"
            self._fusionauth_keys = Jwks(url, session, self._services.clock, setting)
            yield
            await self._fusionauth_keys.close()
            self._fusionauth_keys = None

    async def producer_lifespan(self, _: web.Application) -> AsyncIterator[None]:
        # Imported here: an api without ingest never loads librdkafka.
        from api.ingest.producer import EventProducer, properties

        self._producer = EventProducer(properties(self._settings, self._settings.ingest_timeout_s))
        yield
        await self._producer.close()
        self._producer = None

    def _handler(self, name: str, senders: SenderAuth, choose_adapter: AdapterChoice) -> Handler:
        boundary = Boundary(NAME, way=name)
        responses = DeliveryResponses(name, self._settings.ingest_timeout_s)
        settings = self._settings
        converter = Converter(
            ID_ROUTES.get(name, name),
            self._topics,
            settings.ingest_max_events,
            settings.ingest_max_age_days,
            strict=settings.ingest_strict,
        )

        async def take(request: web.Request) -> web.StreamResponse:
            async def accept(_: ResponseHeaders) -> web.Response:
                try:
                    return await self._accept(request, senders, choose_adapter, converter, responses)
                except ApiError as error:
                    INGEST_REFUSALS.labels(name, getattr(error, "cause", "access")).inc()
                    raise

            return await boundary.serve(request, accept, render_error)

        return take

    async def _accept(
        self,
        request: web.Request,
        senders: SenderAuth,
        choose_adapter: AdapterChoice,
        converter: Converter,
        responses: DeliveryResponses,
    ) -> web.Response:
        sender = await senders.authenticate(request)
        if sender is not None:
            await self._check_rate(sender)
        adapter, headers = choose_adapter(request)
        share = senders.share_of(sender, request)
        with BoundedBody(self._in_flight, share, self._settings.ingest_max_bytes) as bounded:
            body = await bounded.read(request)
            if sender is None:
                sender = await senders.authenticate_body(request, body)
                await self._check_rate(sender)
            now_ms = int(self._services.clock.now() * 1000)
            delivery = converter.convert(adapter, body, headers, now_ms, sender.realms)
            del body
            if self._producer is None:
                raise RuntimeError("the producer is not open")
            return responses.respond(delivery, await self._producer.send(delivery.records.messages))

    async def _check_rate(self, sender: Principal) -> None:
        if self._limit is not None:
            allowance = await self._limit.take(sender.subject)
            if allowance.wait_s > 0:
                raise RateLimitedError(
                    "This sender makes too many requests. Send more events per request.", wait_s=allowance.wait_s
                )


def _always(adapter: Adapter) -> AdapterChoice:
    """A webhook's body has its product's format, whatever its Content-Type says."""
    return lambda _: (adapter, ())


def adapter_for(request: web.Request) -> tuple[Adapter, Headers]:
    """The adapter for a request's media type, and the headers that it reads. Raises UnsupportedMediaError."""
    if CLOUD_EVENT in request.headers:
        kept = [
            (name, value.encode("utf-8", "surrogateescape"))
            for name, value in request.headers.items()
            if name.lower().startswith("ce-") or name.lower() == "content-type"
        ]
        return ADAPTERS["cloudevents"], kept
    media = request.content_type.lower()
    if media in CLOUD_EVENTS_MEDIA:
        return ADAPTERS["cloudevents"], ()
    if media in NATIVE_MEDIA:
        return ADAPTERS["native"], ()
    raise UnsupportedMediaError(f"Content-Type must be one of {', '.join(sorted(NATIVE_MEDIA | CLOUD_EVENTS_MEDIA))}.")
