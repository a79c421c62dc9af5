"""Settings of the api, read once at the start. What a way of access needs and does not get is a fault by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from api.settings import quotas, reporting_policy, token_file
from api.settings.origin import origin_of
from schemas.connections.kafka_settings import http_url
from schemas.connections.redis_settings import RedisUrl
from schemas.events import EVENTS
from schemas.outgoing import topics_by_event
from schemas.settings import PREFIX, KafkaSettings, Listed

AuthMethod = Literal["jwt", "introspection", "static", "none"]
Shape = Literal["documented", "source"]

REQUIRED_BY_METHOD: Final = {
    "auth_issuer": "jwt",
    "auth_audience": "jwt",
    "auth_jwks_url": "jwt",
    "auth_introspection_url": "introspection",
    "auth_client_id": "introspection",
    "auth_client_secret": "introspection",
    "auth_tokens_file": "static",
}
"""Settings that a way of access cannot do without."""

MIN_SECRET_CHARS: Final = 16
"""Characters of a webhook's secret: anybody on the network may try some."""

T = TypeVar("T", str, SecretStr, Path | None)


def _auth_methods(methods: tuple[AuthMethod, ...]) -> tuple[AuthMethod, ...]:
    if not methods:
        raise ValueError("is not set: name at least one of jwt, introspection, static; or none, to answer anybody")
    if "none" in methods and len(methods) > 1:
        raise ValueError("none lets everybody in, so it cannot stand beside another way")
    return methods


def _required_by_method(value: T, info: ValidationInfo) -> T:
    method = REQUIRED_BY_METHOD[info.field_name or ""]
    provided = value.get_secret_value() if isinstance(value, SecretStr) else value
    # `auth` is declared above these fields; it is missing here only when it is at fault itself, which is told already.
    if not provided and method in info.data.get("auth", ()):
        raise ValueError(f"is not set, and AUTHTALLY_AUTH names {method}")
    return value


def _tokens(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is not None and "static" in info.data.get("auth", ()):
        token_file.read(path)
    return path


def _quotas(path: Path | None) -> Path | None:
    if path is not None:
        quotas.read(path)
    return path


def _policies(path: Path | None) -> Path | None:
    if path is not None:
        reporting_policy.read(path)
    return path


Url = Annotated[str, AfterValidator(http_url), AfterValidator(_required_by_method)]


def _has_topic(ingest: bool, info: ValidationInfo) -> bool:
    # `topics` is declared above; it is missing here only when it is at fault itself.
    topics = info.data.get("topics")
    if ingest and topics is not None and not topics_by_event(topics):
        raise ValueError(f"on, but {PREFIX}TOPICS binds no topic to any of {', '.join(EVENTS)}, so nothing can go in")
    return ingest


def _holds_one_body(in_flight: int, info: ValidationInfo) -> int:
    if in_flight < info.data.get("ingest_max_bytes", 0):
        raise ValueError(f"is less than {PREFIX}INGEST_MAX_BYTES: no body of that size would ever be taken")
    return in_flight


def _long_enough(secret: SecretStr) -> SecretStr:
    if 0 < len(secret.get_secret_value()) < MIN_SECRET_CHARS:
        raise ValueError(f"must have at least {MIN_SECRET_CHARS} characters")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_long_enough)]


def _has_issuer(client_id: str, info: ValidationInfo) -> str:
    # Those above that are missing are at fault themselves, which is told already.
    if client_id and "auth" in info.data and not {"jwt", "introspection"} & set(info.data["auth"]):
        raise ValueError(f"{PREFIX}AUTH names neither jwt nor introspection: no token of an issuer would be taken")
    if client_id and not origin_of(info.data.get("auth_issuer", "https://at.fault")):
        raise ValueError(f"{PREFIX}AUTH_ISSUER must be the http:// or https:// URL of who signs people in")
    return client_id


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if origin != origin_of(origin):
            raise ValueError(f"{origin!r} is no origin such as https://login.example.com")
    return origins


class ApiSettings(KafkaSettings):
    """What the api does, whom it answers, and for how long an answer holds."""

    cache_redis_url: RedisUrl | None = Field(
        None, description="Another database or server that api processes share answers in; unset: each keeps its own."
    )
    api_host: str = Field("127.0.0.1", description="Address that the api listens on.")
    api_port: int = Field(8080, ge=0, le=65_535, description="Port that the api listens on; 0 takes a free one.")

    auth: Annotated[Listed[AuthMethod], AfterValidator(_auth_methods)] = Field(
        (), description="How bearers are told: jwt, introspection, static, several of them; or none, for anybody."
    )
    auth_issuer: Annotated[str, AfterValidator(_required_by_method)] = Field(
        "", description="The `iss` that a JWT must carry."
    )
    auth_audience: Annotated[str, AfterValidator(_required_by_method)] = Field(
        "", description="The `aud` that a JWT must name."
    )
    auth_jwks_url: Url = Field("", description="Where the issuer publishes the keys that sign its JWTs.")
    auth_introspection_url: Url = Field("", description="The RFC 7662 endpoint that is asked about opaque tokens.")
    auth_client_id: Annotated[str, AfterValidator(_required_by_method)] = Field(
        "", description="The client that the api introspects tokens as."
    )
    auth_client_secret: Annotated[SecretStr, AfterValidator(_required_by_method)] = Field(
        SecretStr(""), description="Secret of AUTH_CLIENT_ID."
    )
    auth_tokens_file: Annotated[Path | None, AfterValidator(_required_by_method), AfterValidator(_tokens)] = Field(
        None, description="JSON file of static tokens: sha256, subject, scopes and optionally realms of each."
    )
    auth_realms_claim: str = Field(
        "realms", description="Claim that limits its bearer to realms; a token without the claim is not limited."
    )
    stat_scope: str = Field(
        "jans_stat", min_length=1, description="Scope that the Janssen and Gluu statistics ask for."
    )

    janssen_shape: Shape = Field(
        "documented", description="Whether /jans-auth answers as Janssen's document says or as its source does."
    )
    gluu_shape: Shape = Field(
        "documented", description="Whether /oxauth answers as Gluu's document says or as its source does."
    )
    linotp_shape: Shape = Field(
        "documented", description="Whether /reporting answers as LinOTP's document says or as its source does."
    )
    reporting_policy_file: Annotated[Path | None, AfterValidator(_policies)] = Field(
        None,
        description="LinOTP policies of the scopes reporting and reporting.access; unset: all is told to any bearer.",
    )
    reporting_session_s: int = Field(3600, ge=1, le=2_592_000, description="Seconds that a reporting session lasts.")
    janssen_cache_ttl_s: int = Field(3600, ge=0, description="Seconds that a Janssen answer is kept.")
    gluu_interval_s: int = Field(
        60,
        ge=0,
        description="Seconds in which a Gluu question is computed once (source shape: any question is let in).",
    )
    auth0_cache_ttl_s: int = Field(60, ge=0, description="Seconds that an Auth0 answer is kept.")
    auth0_rate_limit: int = Field(
        50, ge=0, description="Requests that a bearer may make at once to /api/v2/stats; 0 limits nobody."
    )
    auth0_rate_per_s: float = Field(
        10, gt=0, le=100_000, description="Requests a second that a bearer gets back of AUTH0_RATE_LIMIT."
    )
    auth0_zero_fill: bool = Field(False, description="/api/v2/stats/daily tells days without data too, as zeros.")
    cache_ttl_s: int = Field(10, ge=0, description="Seconds that an answer of the own surface, /v1, is kept.")
    quotas_file: Annotated[Path | None, AfterValidator(_quotas)] = Field(
        None, description="JSON file of monthly machine-to-machine quotas: tenant, and clients by realm and client_id."
    )
    cache_grace_s: int = Field(
        86_400, ge=0, description="Seconds past its end in which a kept answer still serves while Redis is gone."
    )

    dashboard: bool = Field(True, description="Serves the dashboard at /.")
    dashboard_client_id: Annotated[str, AfterValidator(_has_issuer)] = Field(
        "", description="Public client by which AUTH_ISSUER signs people in to the dashboard; empty: by a pasted token."
    )
    dashboard_scope: str = Field(
        "openid stats:read", min_length=1, description="What the dashboard asks AUTH_ISSUER for when somebody signs in."
    )
    dashboard_connect_origins: Annotated[Listed[str], AfterValidator(_origins)] = Field(
        (), description="Origins of AUTH_ISSUER's token endpoint, where that is not the issuer's own."
    )
    live_interval_s: float = Field(
        2.0, ge=0.1, le=60, description="Seconds between two looks at the figures that /v1/live sends when they change."
    )
    live_listeners: int = Field(
        256, ge=0, le=10_000, description="Listeners of /v1/live at the same time; beyond it 503."
    )

    ingest: Annotated[bool, AfterValidator(_has_topic)] = Field(
        False, description="Takes events over HTTP and sends them to Kafka; only then the Kafka settings matter here."
    )
    ingest_keycloak_secret: Secret = Field(
        SecretStr(""), description="Secret of the webhook /v1/ingest/keycloak; empty: bearers with events:write only."
    )
    ingest_auth0_secret: Secret = Field(
        SecretStr(""), description="Secret of the webhook /v1/ingest/auth0; empty: bearers with events:write only."
    )
    ingest_fusionauth_secret: Secret = Field(
        SecretStr(""), description="Secret of the webhook /v1/ingest/fusionauth; empty: bearers with events:write only."
    )
    ingest_max_bytes: int = Field(1_048_576, ge=1024, description="Largest body of events taken, unpacked.")
    ingest_max_events: int = Field(10_000, ge=1, description="Most events taken in one body.")
    ingest_max_in_flight_bytes: Annotated[int, AfterValidator(_holds_one_body)] = Field(
        16_777_216, description="Bodies held at the same time until Kafka has their events; beyond it 429."
    )
    ingest_rate_limit: int = Field(
        2000, ge=0, description="Requests with events that a sender may make at once; 0 limits nobody."
    )
    ingest_rate_per_s: float = Field(
        1000, gt=0, le=100_000, description="Requests a second that a sender gets back of INGEST_RATE_LIMIT."
    )
    ingest_timeout_s: float = Field(
        5.0, ge=0.1, le=60, description="Seconds in which Kafka must acknowledge events; beyond it 503."
    )

    def _speaks_kafka(self) -> bool:
        return self.ingest

    def _redis_urls(self) -> list[SecretStr]:
        return [url for url in (self.redis_url, self.cache_redis_url) if url is not None]
