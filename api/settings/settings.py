"""Settings of the api, read once at the start. An authentication method without its settings is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from api.settings import checks
from api.settings.peers_file import PeerEntry
from api.settings.peers_file import read as read_peers
from schemas.connections.kafka_settings import http_url
from schemas.connections.redis_settings import RedisUrl
from schemas.connections.urls import is_loopback
from schemas.settings import PREFIX, KafkaSettings, Listed


class ApiSettings(KafkaSettings):
    """Settings of the api: surfaces, authentication, cache."""

    cache_redis_url: RedisUrl | None = Field(
        None,
        description="Redis that api processes share for answers, limits and sessions; unset: each process has its own.",
        examples=["redis://127.0.0.1:6379/1"],
    )
    api_host: str = Field("127.0.0.1", description="Address on which the api listens.")
    api_port: int = Field(8080, ge=0, le=65_535, description="Port on which the api listens; 0 means a free port.")

    trusted_proxies: Listed[Annotated[checks.Network, BeforeValidator(checks.network)]] = Field(
        (),
        description="Networks of the proxies before the api, whose X-Forwarded-For and X-Forwarded-Proto it believes; "
        "empty: these headers are ignored.",
        examples=["127.0.0.1,10.0.3.0/24"],
    )
    cors_origins: Annotated[Listed[str], AfterValidator(checks.cors_origins)] = Field(
        (),
        description="Origins whose pages may call the api from a browser (https://app.example.com), or * for all; "
        "never with cookies.",
    )

    auth: Annotated[Listed[checks.AuthMethod], AfterValidator(checks.auth_methods)] = Field(
        (),
        description="Methods that authenticate tokens: jwt, introspection, static, or several; none answers everybody.",
        examples=["static"],
    )
    auth_issuer: Annotated[str, AfterValidator(checks.required_by_method)] = Field(
        "",
        description="Required `iss` of a JWT, and of an introspection answer that has one.",
        examples=["https://login.example.com"],
    )
    auth_audience: Annotated[Listed[str], AfterValidator(checks.required_by_method)] = Field(
        (),
        description="Audiences, one of which must be in `aud` of a JWT, and of an introspection answer that has `aud`.",
        examples=["authtally"],
    )
    auth_jwks_url: checks.Url = Field(
        "",
        description="URL at which the issuer publishes the keys of its JWTs.",
        examples=["https://login.example.com/jwks"],
    )
    auth_introspection_url: checks.Url = Field(
        "",
        description="URL of the RFC 7662 endpoint for opaque tokens.",
        examples=["https://login.example.com/introspect"],
    )
    auth_client_id: Annotated[str, AfterValidator(checks.required_by_method)] = Field(
        "", description="Client id of the api at the introspection endpoint.", examples=["authtally"]
    )
    auth_client_secret: Annotated[SecretStr, AfterValidator(checks.required_by_method)] = Field(
        SecretStr(""), description="Client secret of AUTH_CLIENT_ID."
    )
    stat_scope: str = Field(
        "jans_stat", min_length=1, description="Token scope that the Janssen and Gluu statistics require."
    )
    auth_tokens_file: Annotated[
        Path | None, AfterValidator(checks.required_by_method), AfterValidator(checks.tokens_file)
    ] = Field(
        None,
        description="JSON file of static tokens, each with sha256, subject, scopes and optionally realms and regions.",
        examples=["/etc/authtally/tokens.json"],
    )
    auth_realms_claim: str = Field(
        "realms",
        description="Claim with the realms to which a token is limited; a token without the claim is not limited.",
    )
    auth_realms_required: bool = Field(
        False, description="Whether to refuse JWTs and introspected tokens without AUTH_REALMS_CLAIM."
    )
    auth_regions_claim: str = Field(
        "regions",
        description="Claim with the regions that a token may see, * for all; without it a token sees REGION only.",
    )
    auth_lookups_per_s: float = Field(
        50,
        gt=0,
        le=10_000,
        description="Introspections per second of tokens that were not valid before; a fifth of it for one address.",
    )
    auth_none_writes: bool = Field(
        False, description="Whether AUTH=none also lets everybody delete reporting rows and send events."
    )
    auth_none_hosts: Listed[str] = Field(
        (),
        description="Host names at which AUTH=none answers, beside addresses, API_HOST and names without a dot.",
    )

    janssen_shape: checks.Shape = Field(
        "documented", description="Whether /jans-auth answers as in Janssen's documentation or as its source code does."
    )
    gluu_shape: checks.Shape = Field(
        "documented", description="Whether /oxauth answers as in Gluu's documentation or as its source code does."
    )
    stat_error_reason: bool = Field(
        False,
        description="Whether errors of the Janssen and Gluu source shapes have a `reason`, as with errorReasonEnabled.",
    )
    linotp_shape: checks.Shape = Field(
        "documented", description="Whether /reporting answers as in LinOTP's documentation or as its source code does."
    )
    linotp_realms: Listed[str] = Field(
        (),
        description="LinOTP's realms in its order: /reporting also lists those that have no rows yet.",
    )
    linotp_url: Annotated[str, AfterValidator(http_url)] = Field(
        "",
        description="LinOTP's URL, asked whether an admin_session is valid; empty: only this api's own sessions.",
        examples=["https://linotp.example.com"],
    )
    reporting_policy_file: Annotated[Path | None, AfterValidator(checks.policies_file)] = Field(
        None,
        description="File of LinOTP policies (scopes reporting, reporting.access); unset: every token may read all.",
        examples=["/etc/authtally/policies.cfg"],
    )
    reporting_session_s: int = Field(
        3600, ge=1, le=2_592_000, description="Lifetime of a reporting session in seconds."
    )
    reporting_cookie_secure: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether the session cookie is sent over https only; auto: on, except on a loopback API_HOST.",
    )
    janssen_cache_ttl_s: int = Field(3600, ge=0, description="Seconds for which a Janssen answer is cached.")
    gluu_interval_s: int = Field(
        60,
        ge=0,
        description="Seconds for which a Gluu answer is cached (source shape: least seconds between two requests).",
    )
    auth0_cache_ttl_s: int = Field(60, ge=0, description="Seconds for which an Auth0 answer is cached.")
    auth0_rate_limit: int = Field(
        50, ge=0, description="Burst of requests that a principal may send to /api/v2/stats; 0 means no limit."
    )
    auth0_rate_per_s: float = Field(
        10, gt=0, le=100_000, description="Requests per second that a principal regains, up to AUTH0_RATE_LIMIT."
    )
    auth0_zero_fill: bool = Field(
        False, description="Whether /api/v2/stats/daily also lists days without data, with zeros."
    )
    cache_ttl_s: int = Field(10, ge=0, description="Seconds for which an answer of the own surface, /v1, is cached.")
    merged_max_mb: int = Field(
        64,
        ge=0,
        description="Most megabytes of merged closed months and days, kept in the process, and sent per day to "
        "CACHE_REDIS_URL; 0 reads every shard for every question.",
    )
    quotas_file: Annotated[Path | None, AfterValidator(checks.quotas_file)] = Field(
        None,
        description="JSON file of monthly machine-to-machine quotas: tenant, and clients by realm and client_id.",
        examples=["/etc/authtally/quotas.json"],
    )
    cache_grace_s: int = Field(
        86_400,
        ge=0,
        description="Seconds after its expiry for which a cached answer still serves while Redis is unreachable.",
    )

    region: Annotated[str, AfterValidator(checks.region_name)] = Field(
        "",
        description="Name of this deployment among the regions that answer together; empty: no regions.",
        examples=["eu"],
    )
    peers_file: Annotated[Path | None, AfterValidator(checks.peers_file)] = Field(
        None,
        description="JSON file of the other regions' apis, each with name, url, token_file and optionally ca. It is "
        "read again within a second of a change.",
        examples=["/etc/authtally/peers.json"],
    )
    region_users: Literal["shared", "distinct"] | None = Field(
        None,
        description="`shared`: equal user ids of two regions are one user, so sketches are exchanged and united; "
        "`distinct`: users are added, and no sketch leaves. Required with REGION.",
        examples=["distinct"],
    )
    region_min_users: int = Field(
        100_000,
        ge=1,
        description="Fewest users of a period and scope whose sketch is exported; below it peers get the number only.",
    )
    region_timeout_s: float = Field(
        1.0, ge=0.1, le=1.5, description="Seconds for which one question waits for all its peers together."
    )
    region_products: Literal["own", "all"] = Field(
        "own",
        description="Whether the surfaces of Janssen, Gluu and Auth0 answer for REGION or for all the token's regions.",
    )

    dashboard: bool = Field(True, description="Whether to serve the dashboard at /.")
    dashboard_client_id: Annotated[str, AfterValidator(checks.has_issuer)] = Field(
        "",
        description="Public client of AUTH_ISSUER for the dashboard's sign-in; empty: users paste a token.",
        examples=["dashboard"],
    )
    dashboard_scope: str = Field(
        "openid stats:read", min_length=1, description="OAuth scopes that the dashboard requests at sign-in."
    )
    dashboard_connect_origins: Annotated[Listed[str], AfterValidator(checks.exact_origins)] = Field(
        (),
        description="Origins of AUTH_ISSUER's token endpoint, if they differ from the issuer's origin.",
        examples=["https://login.example.com"],
    )
    live_interval_s: float = Field(
        2.0, ge=0.1, le=60, description="Seconds between two reads of the figures that /v1/live sends after a change."
    )
    live_listeners: int = Field(
        256, ge=0, le=10_000, description="Most concurrent listeners of /v1/live; beyond it 503."
    )
    live_listeners_per_subject: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Most listeners of /v1/live of one subject, or of one address with AUTH=none; beyond it 429.",
    )

    ingest: Annotated[bool, AfterValidator(checks.has_topic)] = Field(
        False,
        description="Whether to accept events over HTTP and send them to Kafka. The api uses Kafka settings only then.",
    )
    ingest_strict: bool = Field(
        False,
        description="Whether /v1/events rejects events with unknown fields, instead of a warning in the answer.",
    )
    ingest_keycloak_secret: checks.Secret = Field(
        SecretStr(""),
        description=(
            "Secret of the webhook /v1/ingest/keycloak, sent or used to sign; "
            "empty: only tokens with scope events:write."
        ),
    )
    ingest_secret_header: Annotated[str, AfterValidator(checks.header_name)] = Field(
        checks.SECRET_HEADER,
        description="Header in which a webhook may send its secret as it is, beside Authorization.",
        examples=["X-API-Key"],
    )
    ingest_auth0_secret: checks.Secret = Field(
        SecretStr(""), description="Secret of the webhook /v1/ingest/auth0; empty: only tokens with scope events:write."
    )
    ingest_fusionauth_secret: checks.Secret = Field(
        SecretStr(""),
        description=(
            "Secret of the webhook /v1/ingest/fusionauth, sent or used to sign; "
            "empty: only tokens with scope events:write."
        ),
    )
    ingest_fusionauth_jwks_url: Annotated[str, AfterValidator(http_url)] = Field(
        "",
        description="URL of the keys by which FusionAuth signs its webhooks (RSA, EC): its /.well-known/jwks.json.",
    )
    ingest_max_bytes: int = Field(
        1_048_576, ge=1024, description="Largest accepted body of events in bytes, uncompressed."
    )
    ingest_max_events: int = Field(10_000, ge=1, description="Most events in one body.")
    ingest_max_age_days: int = Field(
        35, ge=1, le=36_500, description="Age in days beyond which an event over HTTP is rejected."
    )
    ingest_max_in_flight_bytes: Annotated[int, AfterValidator(checks.holds_one_body)] = Field(
        16_777_216,
        description="Most bytes of bodies held until Kafka acknowledges their events, else 429; one sender gets half.",
    )
    ingest_rate_limit: int = Field(
        2000, ge=0, description="Burst of requests with events that a sender may send; 0 means no limit."
    )
    ingest_rate_per_s: float = Field(
        1000, gt=0, le=100_000, description="Requests per second that a sender regains, up to INGEST_RATE_LIMIT."
    )
    ingest_timeout_s: float = Field(
        5.0, ge=0.1, le=60, description="Seconds within which Kafka must acknowledge events; beyond it 503."
    )

    @model_validator(mode="after")
    def _regions_are_whole(self) -> Self:
        if not self.region:
            needless = [name for name in ("peers_file", "region_users") if getattr(self, name) is not None]
            if needless:
                raise ValueError(f"{PREFIX}{needless[0].upper()} is set, but {PREFIX}REGION is not")
            return self
        if self.region_users is None:
            raise ValueError(
                f"{PREFIX}REGION_USERS: is not set, but {PREFIX}REGION is; allowed: shared, if equal user ids of two "
                "regions are one user, or distinct"
            )
        if "none" in self.auth:
            raise ValueError(f"{PREFIX}REGION is set, but {PREFIX}AUTH=none would export figures to everybody")
        self._check_peers()
        return self

    def _check_peers(self) -> None:
        try:
            _ = self.peers
        except ValueError as error:
            raise ValueError(f"{PREFIX}PEERS_FILE: {error}") from error

    @property
    def peers(self) -> list[PeerEntry]:
        """Those that the file names now. Raises ValueError."""
        return [] if self.peers_file is None else read_peers(self.peers_file, self.region)

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies are always for https only: behind a proxy the api itself does not see https."""
        if self.reporting_cookie_secure == "auto":
            return not is_loopback(self.api_host)
        return self.reporting_cookie_secure == "on"

    def _speaks_kafka(self) -> bool:
        return self.ingest

    def _redis_urls(self) -> list[SecretStr]:
        return [url for url in (self.redis_url, self.cache_redis_url) if url is not None]
