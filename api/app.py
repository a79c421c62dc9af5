"""Wires the api."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Final

import structlog
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web

from api import health
from api.auth.access import Access
from api.auth.authenticator import Authenticator
from api.auth.claims import AcceptedTokens
from api.auth.introspection import Introspection
from api.auth.jwks import Jwks
from api.auth.jwt_tokens import JwtTokens
from api.auth.lookups import Lookups
from api.auth.static_tokens import StaticTokens
from api.cache.cache import Cache, SharedStore
from api.cache.ready_answers import ReadyAnswers
from api.dashboard import configuration
from api.dashboard.live import Live
from api.dashboard.routes import Dashboard
from api.dialects import auth0, gluu, janssen, own
from api.dialects.linotp import Reporting
from api.endpoint import Services
from api.http.cors import Cors
from api.http.expect import with_expect_handler
from api.http.response_headers import add_headers
from api.http.same_site import refuse_other_sites
from api.http.strict import Step, StrictRunner
from api.http.tracing import Tracing
from api.ingest.routes import Ingest
from api.ledger.client import AUTH_ERRORS, UNREACHABLE, open_ledger, open_shared
from api.ledger.merged_store import MergedStore
from api.ledger.statistics import Statistics
from api.regions.regions import Regions
from api.settings.settings import ApiSettings
from api.unmatched import UnmatchedPaths
from schemas.connections.redis_diagnosis import diagnose_refusal
from schemas.connections.urls import is_in_the_clear
from schemas.settings import PREFIX, SettingsError
from schemas.telemetry import traces
from schemas.time.clock import SYSTEM, Clock

log = structlog.get_logger(__name__)

DIALECTS: Final = (janssen, gluu, auth0, own)

ISSUER_TIMEOUT_S: Final = 1.5
MAX_HEAD_BYTES: Final = 16_384
"""Limit of the request line and of each header. Endpoints check half of it, and refuse in the product's shape."""
KEEPALIVE_S: Final = 75.0
"""Longer than the minute after which proxies close idle connections, so no proxy sends into a closing one."""

SETTINGS: Final = web.AppKey("settings", ApiSettings)
SERVICES: Final = web.AppKey("services", Services)


def build_app(settings: ApiSettings, clock: Clock = SYSTEM) -> web.Application:
    """The api as an application. It opens connections at startup, not here."""
    ledger = open_ledger(settings)
    shared = open_shared(settings, settings.cache_redis_url)
    store = merged = None
    prefix, release = settings.key_prefix, version("authtally")
    if shared is not None:
        store = SharedStore(shared, prefix, settings.cache_grace_s, clock, release)
    if settings.merged_max_mb:
        merged = MergedStore(settings.merged_max_mb << 20, clock, shared, prefix, release)
    statistics = Statistics(ledger, settings, merged)
    cache = Cache(clock, random.random, settings.cache_grace_s, store)
    regions = Regions(settings, statistics, ledger, clock)
    ready = ReadyAnswers(cache, clock.monotonic)
    services = Services(ledger, statistics, cache, ready, Access(clock, settings.region), clock, [], shared, regions)
    tracing = Tracing(settings.otlp_endpoint) if traces.is_enabled(settings.otlp_endpoint) else None
    # Without traces there is no middleware: even an empty one costs time for each cached answer.
    app = web.Application(middlewares=() if tracing is None else (tracing.middleware,))
    if tracing is not None:
        app.cleanup_ctx.append(tracing.lifespan)
    app[SETTINGS], app[SERVICES] = settings, services
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(connect_lifespan)
    app.cleanup_ctx.append(regions.lifespan)
    app.add_routes(with_expect_handler(health.routes(ledger, services.hits)))
    for dialect in DIALECTS:
        app.add_routes(with_expect_handler(dialect.routes(settings, services)))
    reporting = Reporting(settings, services)
    app.add_routes(with_expect_handler(reporting.routes()))
    app.cleanup_ctx.extend(reporting.lifespans)
    live = Live(settings, services)
    app.add_routes(with_expect_handler(live.routes()))
    app.on_shutdown.append(live.close)
    if settings.dashboard:
        app.add_routes(with_expect_handler(configuration.routes(settings)))
        app.add_routes(with_expect_handler(Dashboard(settings).routes()))
    if settings.ingest:
        ingest = Ingest(settings, services)
        app.add_routes(with_expect_handler(ingest.routes()))
        app.cleanup_ctx.extend([ingest.producer_lifespan, ingest.keys_lifespan])
    cors = None
    if settings.cors_origins:
        cors = Cors(settings.cors_origins)
        app.on_response_prepare.append(cors.add_headers)
    surfaces = [*(dialect.surface(settings) for dialect in DIALECTS), reporting.surface()]
    app.router.register_resource(UnmatchedPaths(app.router, surfaces, cors))
    return app


def build_runner(app: web.Application, idle_s: float = KEEPALIVE_S) -> web.AppRunner:
    """The server of the application: no access log (metrics count requests), bounded heads, no tracebacks.

    A connection is closed `idle_s` after it was opened or last answered, if no complete head has arrived since.
    aiohttp does not decompress bodies: it would not report a truncated body, which loses events.
    """
    settings = app[SETTINGS]
    steps: list[Step] = []
    if "none" in settings.auth:
        steps.append(refuse_other_sites((settings.api_host, *settings.auth_none_hosts), settings.cors_origins))
    if not app.middlewares and not settings.cors_origins:
        # Before routing, which would double the cost of a ready answer. Traces and CORS need a routed request:
        # `Endpoint.get` finds its answer then.
        steps.append(app[SERVICES].ready.find)
    return StrictRunner(
        app,
        steps,
        access_log=None,
        keepalive_timeout=idle_s,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        handler_cancellation=False,
        auto_decompress=False,
    )


async def connect_lifespan(app: web.Application) -> AsyncIterator[None]:
    settings, services = app[SETTINGS], app[SERVICES]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(services.ledger.close)
        stack.push_async_callback(services.cache.close)
        await check_ledger(settings, services)
        timeout = ClientTimeout(total=ISSUER_TIMEOUT_S)
        session = await stack.enter_async_context(
            ClientSession(timeout=timeout, cookie_jar=DummyCookieJar(), trust_env=False)
        )
        jwks = Jwks(settings.auth_jwks_url, session, services.clock)
        stack.push_async_callback(jwks.close)
        services.access.configure(
            authenticators(settings, jwks, session, services.clock), open_access="none" in settings.auth
        )
        stack.push_async_callback(services.access.close)
        yield


async def check_ledger(settings: ApiSettings, services: Services) -> None:
    """Raises SettingsError if Redis refuses our credentials. An unreachable Redis is only logged; it may recover."""
    try:
        await services.ledger.ping()
    except AUTH_ERRORS as error:
        raise SettingsError([f"{PREFIX}REDIS_URL: Redis refuses this user or password"]) from error
    except UNREACHABLE as error:
        reason = await diagnose_refusal(settings, str(error)) or type(error).__name__
        log.warning("ledger unreachable at start", setting=f"{PREFIX}REDIS_URL", error=reason)


def authenticators(settings: ApiSettings, jwks: Jwks, session: ClientSession, clock: Clock) -> list[Authenticator]:
    """The authenticators of AUTH, cheapest first."""
    found: list[Authenticator] = []
    accepted = AcceptedTokens(
        settings.auth_issuer,
        settings.auth_audience,
        settings.auth_realms_claim,
        settings.auth_realms_required,
        settings.auth_regions_claim,
    )
    if "static" in settings.auth and settings.auth_tokens_file is not None:
        found.append(StaticTokens(settings.auth_tokens_file, clock))
    if "jwt" in settings.auth:
        found.append(JwtTokens(jwks, accepted, clock))
    if "introspection" in settings.auth:
        secret = settings.auth_client_secret.get_secret_value()
        url, client_id = settings.auth_introspection_url, settings.auth_client_id
        lookups = Lookups(settings.auth_lookups_per_s, clock)
        found.append(Introspection(url, client_id, secret, accepted, lookups, session, clock))
    asked = {"LINOTP_URL": settings.linotp_url, "INGEST_FUSIONAUTH_JWKS_URL": settings.ingest_fusionauth_jwks_url}
    if found:
        asked |= {"AUTH_JWKS_URL": settings.auth_jwks_url, "AUTH_INTROSPECTION_URL": settings.auth_introspection_url}
    for name, url in asked.items():
        if is_in_the_clear(url):
            log.warning("asked in the clear, so answers can be forged", setting=PREFIX + name, use="https")
    if not found:
        log.warning("answering everybody", setting=f"{PREFIX}AUTH", value="none")
    return found
