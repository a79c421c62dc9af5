"""Settings of the api, read once at the start. What a way of access needs and does not get is a fault by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from api import static_tokens
from schemas.settings import CommonSettings, Listed, RedisUrl

AccessBy = Literal["jwt", "introspection", "static", "none"]
Shape = Literal["documented", "source"]

NEEDED: Final = {
    "auth_issuer": "jwt",
    "auth_audience": "jwt",
    "auth_jwks_url": "jwt",
    "auth_introspection_url": "introspection",
    "auth_client_id": "introspection",
    "auth_client_secret": "introspection",
    "auth_tokens_file": "static",
}
"""Settings that a way of access cannot do without."""

T = TypeVar("T", str, SecretStr, Path | None)


def _ways(ways: tuple[AccessBy, ...]) -> tuple[AccessBy, ...]:
    if not ways:
        raise ValueError("is not set: name at least one of jwt, introspection, static; or none, to answer anybody")
    if "none" in ways and len(ways) > 1:
        raise ValueError("none lets everybody in, so it cannot stand beside another way")
    return ways


def _needed(value: T, info: ValidationInfo) -> T:
    way = NEEDED[info.field_name or ""]
    given = value.get_secret_value() if isinstance(value, SecretStr) else value
    # `auth` is declared above these fields; it is missing here only when it is at fault itself, which is told already.
    if not given and way in info.data.get("auth", ()):
        raise ValueError(f"is not set, and AUTHTALLY_AUTH names {way}")
    return value


def _http(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be an http:// or https:// URL")
    return url


def _tokens(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is not None and "static" in info.data.get("auth", ()):
        static_tokens.read(path)
    return path


Url = Annotated[str, AfterValidator(_http), AfterValidator(_needed)]


class ApiSettings(CommonSettings):
    """What the api does, whom it answers, and for how long an answer holds."""

    cache_redis_url: RedisUrl | None = Field(
        None, description="Another database or server that api processes share answers in; unset: each keeps its own."
    )
    api_host: str = Field("127.0.0.1", description="Address that the api listens on.")
    api_port: int = Field(8080, ge=0, le=65_535, description="Port that the api listens on; 0 takes a free one.")

    auth: Annotated[Listed[AccessBy], AfterValidator(_ways)] = Field(
        (), description="How bearers are told: jwt, introspection, static, several of them; or none, for anybody."
    )
    auth_issuer: Annotated[str, AfterValidator(_needed)] = Field("", description="The `iss` that a JWT must carry.")
    auth_audience: Annotated[str, AfterValidator(_needed)] = Field("", description="The `aud` that a JWT must name.")
    auth_jwks_url: Url = Field("", description="Where the issuer publishes the keys that sign its JWTs.")
    auth_introspection_url: Url = Field("", description="The RFC 7662 endpoint that is asked about opaque tokens.")
    auth_client_id: Annotated[str, AfterValidator(_needed)] = Field(
        "", description="The client that the api introspects tokens as."
    )
    auth_client_secret: Annotated[SecretStr, AfterValidator(_needed)] = Field(
        SecretStr(""), description="Secret of AUTH_CLIENT_ID."
    )
    auth_tokens_file: Annotated[Path | None, AfterValidator(_needed), AfterValidator(_tokens)] = Field(
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
    janssen_cache_ttl_s: int = Field(3600, ge=0, description="Seconds that a Janssen answer is kept.")
    gluu_interval_s: int = Field(
        60,
        ge=0,
        description="Seconds in which a Gluu question is computed once (source shape: any question is let in).",
    )
    cache_grace_s: int = Field(
        86_400, ge=0, description="Seconds past its end in which a kept answer still serves while Redis is gone."
    )
