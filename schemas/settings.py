"""Settings that both services share. The environment decides (prefix `AUTHTALLY_`), then `.env`, then secret files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.adapters.registry import ADAPTERS

PREFIX: Final = "AUTHTALLY_"

Dimension = Literal["realm", "client", "node"]
ActiveOn = Literal["login", "refresh"]


def _listed(value: object) -> object:
    """`a, b` as people write it in an environment; a list as code passes it."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_listed)]


def _topics(value: object) -> object:
    """`auth.logins=login,auth.tokens=token`: which topic carries which event."""
    if not isinstance(value, str):
        return value
    bound: dict[str, str] = {}
    for item in _listed(value) or ():  # type: ignore[attr-defined]
        topic, equals, name = item.partition("=")
        if not equals:
            raise ValueError(f"{item!r} is not topic=event")
        if topic in bound:
            raise ValueError(f"topic {topic!r} is bound twice")
        bound[topic] = name
    return bound


def _known_events(topics: dict[str, str]) -> dict[str, str]:
    for topic, name in topics.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic):
            raise ValueError(f"{topic!r} is no Kafka topic name")
        if name not in ADAPTERS:
            raise ValueError(f"{topic}={name}: unknown event or adapter, expected one of {', '.join(ADAPTERS)}")
    if not topics:
        raise ValueError("names no topic")
    return topics


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone of the IANA database") from error
    return name


def _tagless(prefix: str) -> str:
    # A brace would open a hash tag of its own and scatter a shard over Cluster slots.
    if "{" in prefix or "}" in prefix:
        raise ValueError("must not contain braces, which Redis Cluster reads as a hash tag")
    return prefix


def _redis_scheme(url: SecretStr, info: ValidationInfo) -> SecretStr:
    """A secret, since it may carry a password; `rediss://` is TLS."""
    if urlsplit(url.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must be a redis://, rediss:// or unix:// URL")
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_redis_scheme)]


class CommonSettings(BaseSettings):
    """What worker and api must agree on. A worker refuses when these differ from what a shard was counted with."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_url: RedisUrl = Field(SecretStr("redis://127.0.0.1:6379/0"), description="The ledger's Redis or Valkey.")
    redis_cluster: bool = Field(False, description="REDIS_URL names a node of a Cluster.")
    redis_sentinel: str = Field(
        "",
        description="Name of the Sentinel master; REDIS_URL then names the sentinels, host:port,host:port.",
    )
    key_prefix: Annotated[str, AfterValidator(_tagless)] = Field(
        "authtally:", description="How every key begins. Another prefix counts anew."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Where days and months turn.")
    users_by: Listed[Dimension] = Field(("realm",), description="Whose active users are kept besides everybody's.")
    counts_by: Listed[Dimension] = Field(("realm", "client"), description="Whose counters are kept besides all.")
    exact_up_to: int = Field(
        4096,
        ge=0,
        le=8192,
        description="Active users per period, scope and shard that are counted one by one.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["text", "json"] = Field("text", description="How log lines look.")

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


Topics = Annotated[dict[str, str], NoDecode, BeforeValidator(_topics), AfterValidator(_known_events)]


class KafkaSettings(CommonSettings):
    """How to reach Kafka, for whatever reads from it or writes to it."""

    kafka_bootstrap_servers: str = Field(
        "127.0.0.1:9092", min_length=1, description="Brokers to begin with: host:port, host:port."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to."
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="With a SASL protocol: how to sign in."
    )
    kafka_sasl_username: str = Field("", description="With a SASL mechanism.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="With a SASL mechanism.")
    kafka_ssl_cafile: str = Field("", description="Authorities that sign the brokers; empty: the system's.")
    kafka_ssl_certfile: str = Field("", description="Our certificate, where brokers ask for one.")
    kafka_ssl_keyfile: str = Field("", description="The key of KAFKA_SSL_CERTFILE.")
    kafka_idempotence: bool = Field(True, description="Idempotent producing; off only for brokers without it.")
    topics: Topics = Field(
        {"auth.logins": "login", "auth.tokens": "token", "auth.accounts": "account", "auth.otp-tokens": "otp"},
        description="topic=event, …: what is read and as what. Setting it replaces the list.",
    )
    dead_letter_topic: str = Field("auth.dead-letter", min_length=1, description="Where records go that cannot count.")

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        sasl = self.kafka_security_protocol.startswith("SASL")
        if sasl and not (self.kafka_sasl_mechanism and self.kafka_sasl_username):
            raise ValueError(
                f"{PREFIX}KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} needs "
                f"{PREFIX}KAFKA_SASL_MECHANISM and {PREFIX}KAFKA_SASL_USERNAME"
            )
        if self.dead_letter_topic in self.topics:
            raise ValueError(f"{PREFIX}DEAD_LETTER_TOPIC is among {PREFIX}TOPICS: it would feed itself")
        return self

    def kafka_client(self) -> dict[str, str]:
        """The connection as librdkafka's properties, for producers and admin clients."""
        properties = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanism": self.kafka_sasl_mechanism,
            "sasl.username": self.kafka_sasl_username,
            "sasl.password": self.kafka_sasl_password.get_secret_value(),
            "ssl.ca.location": self.kafka_ssl_cafile,
            "ssl.certificate.location": self.kafka_ssl_certfile,
            "ssl.key.location": self.kafka_ssl_keyfile,
        }
        return {name: value for name, value in properties.items() if value}

    def kafka_producer(self) -> dict[str, Any]:
        """The properties of every librdkafka producer: nothing is told as sent before all replicas have it."""
        return {
            **self.kafka_client(),
            "acks": "all",
            "enable.idempotence": self.kafka_idempotence,
            # The choice of Kafka's Java clients: equal keys meet in one partition, whoever sends them.
            "partitioner": "murmur2_random",
            # Its own lines about connections repeat for as long as a broker is away.
            "log_level": 0,
        }


S = TypeVar("S", bound=BaseSettings)


class SettingsError(Exception):
    """Every fault found in the environment, one line each, by the setting's full name."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


def read(settings: type[S], **given: Any) -> S:
    """Read settings from the environment; `given` wins over it. Raises SettingsError with all faults at once."""
    try:
        return settings(**given)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False):
            message = "is not set" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
            # A rule over several settings names them itself.
            faults.append(f"{PREFIX}{str(fault['loc'][0]).upper()}: {message}" if fault["loc"] else message)
        raise SettingsError(faults) from error


def effective(settings: BaseSettings) -> dict[str, str]:
    """Every setting by its environment name, as `--check` prints it: secrets masked."""
    shown = {}
    for name in sorted(type(settings).model_fields):
        value = getattr(settings, name)
        if name.endswith("_url") and isinstance(value, SecretStr):
            value = without_password(value.get_secret_value())
        elif isinstance(value, SecretStr):
            value = "********" if value.get_secret_value() else ""
        elif isinstance(value, dict):
            value = ",".join(f"{key}={item}" for key, item in value.items())
        elif isinstance(value, tuple):
            value = ",".join(str(item) for item in value)
        shown[PREFIX + name.upper()] = "" if value is None else str(value)
    return shown


def without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:********@{host}"))


def fingerprint(secret: str) -> str:
    """Names a secret without telling it: 64 bits of its BLAKE2b, for comparing settings across processes."""
    return hashlib.blake2b(secret.encode(), digest_size=8, person=b"authtally-key").hexdigest()
