"""Settings that both services share. The environment (prefix `AUTHTALLY_`) wins over `.env`, then secret files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas import settings_errors
from schemas.adapters.registry import ADAPTERS
from schemas.connections.kafka_settings import KafkaConnectionSettings
from schemas.connections.redis_settings import RedisConnectionSettings
from schemas.connections.urls import MASK, masked_url
from schemas.events import MAX_LABEL_BYTES
from schemas.prefix import PREFIX as PREFIX
from schemas.suggestions import did_you_mean
from schemas.telemetry import traces

Dimension = Literal["realm", "client", "node"]
ActiveOn = Literal["login", "refresh"]


def _split_list(value: object) -> object:
    """Split `a, b` from the environment; pass on a list from code."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_split_list)]


def _topics(value: object) -> object:
    """Parse `auth.logins=login,auth.tokens=token`: topics and the events bound to them."""
    if not isinstance(value, str):
        return value
    bound: dict[str, str] = {}
    for item in _split_list(value) or ():  # type: ignore[attr-defined]
        topic, equals, name = item.partition("=")
        if not equals:
            raise ValueError(f"{item!r} is not topic=event, separated by commas")
        if topic in bound:
            raise ValueError(f"topic {topic!r} is bound twice")
        bound[topic] = name
    return bound


def _check_bindings(topics: dict[str, str]) -> dict[str, str]:
    for topic, name in topics.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic):
            raise ValueError(f"{topic!r} is not a Kafka topic name; allowed: 1 to 249 of A-Z a-z 0-9 . _ -")
        if name not in ADAPTERS:
            raise ValueError(
                f"{topic}={name}: no such event or adapter; allowed: {', '.join(ADAPTERS)}"
                + did_you_mean(name, ADAPTERS)
            )
    if not topics:
        raise ValueError("names no topic")
    return topics


def _realm_names(value: object) -> object:
    """Parse `9f3e0000-…=shop,…`: realm ids and their names."""
    if not isinstance(value, str):
        return value
    names: dict[str, str] = {}
    for item in _split_list(value) or ():  # type: ignore[attr-defined]
        realm, equals, name = item.partition("=")
        if not equals or not realm or not name:
            raise ValueError(f"{item!r} is not id=name")
        if realm in names:
            raise ValueError(f"{realm!r} has two names")
        names[realm] = name
    return names


def _check_realm_names(names: dict[str, str]) -> dict[str, str]:
    for realm, name in names.items():
        if len(name.encode()) > MAX_LABEL_BYTES:
            raise ValueError(f"the name of {realm!r} is longer than {MAX_LABEL_BYTES} bytes")
        if names.get(name, name) != name:
            raise ValueError(f"{realm!r} is named {name!r}, which has a name of its own")
    return names


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{name!r} is not a time zone of the IANA database{did_you_mean(name, available_timezones())}"
        ) from error
    return name


def _without_braces(prefix: str) -> str:
    # A brace would start another hash tag and spread a shard over Cluster slots.
    if "{" in prefix or "}" in prefix:
        raise ValueError("must not contain braces, which Redis Cluster reads as a hash tag")
    return prefix


class CommonSettings(RedisConnectionSettings):
    """Settings that both services have. A worker refuses a shard whose `counted_with` settings had other values."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    key_prefix: Annotated[str, AfterValidator(_without_braces)] = Field(
        "authtally:", description="Prefix of every Redis key. Another prefix starts an empty ledger."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC", description="Time zone that defines days and months.", examples=["Europe/Berlin"]
    )
    users_by: Listed[Dimension] = Field(
        ("realm",), description="Dimensions for which active users are kept, besides the total: realm, client, node."
    )
    counts_by: Listed[Dimension] = Field(
        ("realm", "client"),
        description="Dimensions for which counters are kept, besides the total: realm, client, node.",
    )
    exact_up_to: int = Field(
        4096,
        ge=0,
        le=8192,
        description="Active users per period, scope and shard up to which the count is exact.",
    )
    secrets_dir: str = Field(
        "",
        description="Folder of secrets, one file per variable (authtally_redis_url). Set in the environment only.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="Format of log lines.")
    otlp_endpoint: Annotated[str, AfterValidator(traces.endpoint)] = Field(
        "",
        description="URL of an OTLP/HTTP collector for traces; empty: OTEL_EXPORTER_OTLP_ENDPOINT, or no traces.",
        examples=["http://127.0.0.1:4318"],
    )

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


RealmNames = Annotated[dict[str, str], NoDecode, BeforeValidator(_realm_names), AfterValidator(_check_realm_names)]
Topics = Annotated[dict[str, str], NoDecode, BeforeValidator(_topics), AfterValidator(_check_bindings)]


class KafkaSettings(KafkaConnectionSettings, CommonSettings):
    """Settings of services that read from Kafka or write to it."""

    topics: Topics = Field(
        {"auth.logins": "login", "auth.tokens": "token", "auth.accounts": "account", "auth.otp-tokens": "otp"},
        description="topic=event, …: topics to read, each with its event or adapter. Replaces the default list.",
    )
    realm_names: RealmNames = Field(
        {},
        description="id=name, …: names of realms that records of a product give by id only, as some of Keycloak do.",
    )
    dead_letter_topic: str = Field(
        "auth.dead-letter", min_length=1, description="Topic for records that cannot be counted."
    )

    @model_validator(mode="after")
    def _dead_letter_topic_is_separate(self) -> Self:
        if self.dead_letter_topic in self.topics:
            raise ValueError(f"{PREFIX}DEAD_LETTER_TOPIC is also in {PREFIX}TOPICS: dead letters would be read again")
        return self


S = TypeVar("S", bound=BaseSettings)
SECRETS_DIR: Final = f"{PREFIX}SECRETS_DIR"


class SettingsError(Exception):
    """All errors in the environment, one line each, with the setting's full name."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = list(errors)


def read(settings: type[S], **values: Any) -> S:
    """Read settings from the environment; `values` override it. Raises SettingsError with all errors."""
    folder = os.environ.get(SECRETS_DIR, "")
    if folder and not Path(folder).is_dir():
        raise SettingsError([f"{SECRETS_DIR}: {folder!r} is not a folder"])
    try:
        return settings(_secrets_dir=folder or None, **values)
    except ValidationError as error:
        raise SettingsError(settings_errors.render(settings, error)) from error


def effective(settings: BaseSettings) -> dict[str, str]:
    """Every setting by its environment name, as `--check` prints it; secrets are masked, also those inside URLs."""
    shown = {}
    for name in sorted(type(settings).model_fields):
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            value = masked_url(secret) if name.endswith("_url") and "://" in secret else MASK if secret else ""
        elif isinstance(value, dict):
            value = ",".join(f"{key}={item}" for key, item in value.items())
        elif isinstance(value, tuple):
            value = ",".join(masked_url(str(item)) for item in value)
        shown[PREFIX + name.upper()] = "" if value is None else masked_url(str(value))
    return shown


def fingerprint(secret: str) -> str:
    """64 bits of the secret's BLAKE2b, for comparing secrets between processes without revealing them."""
    return hashlib.blake2b(secret.encode(), digest_size=8, person=b"authtally-key").hexdigest()
