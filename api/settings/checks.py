"""Checks of the api's settings, and the types that they give. They raise ValueError with what is allowed."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, SecretStr, ValidationInfo

from api.settings import quotas, reporting_policy, token_file
from api.settings.origin import origin_of
from api.settings.peers_file import ALL, REGION_NAME
from api.settings.peers_file import read as read_peers
from schemas.connections.kafka_settings import http_url
from schemas.connections.urls import masked_url
from schemas.events import EVENTS
from schemas.outgoing import topics_by_event
from schemas.settings import PREFIX

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
"""Settings that an authentication method requires."""

MIN_SECRET_CHARS: Final = 16
"""Minimum length of a webhook's secret: anyone on the network can guess."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SECRET_HEADER: Final = "X-Webhook-Secret"  # noqa: S105
"""The default header of a webhook's secret."""

T = TypeVar("T", str, SecretStr, Path | None, tuple[str, ...])


def auth_methods(methods: tuple[AuthMethod, ...]) -> tuple[AuthMethod, ...]:
    if not methods:
        raise ValueError("is not set; allowed: jwt, introspection, static, or several; or none, to answer everybody")
    if "none" in methods and len(methods) > 1:
        raise ValueError("none answers everybody, so it cannot be combined with another method")
    return methods


def required_by_method(value: T, info: ValidationInfo) -> T:
    method = REQUIRED_BY_METHOD[info.field_name or ""]
    provided = value.get_secret_value() if isinstance(value, SecretStr) else value
    # `auth` is validated before these fields; it is missing here only if it is invalid, which is reported already.
    if not provided and method in info.data.get("auth", ()):
        raise ValueError(f"is not set, but AUTHTALLY_AUTH lists {method}")
    return value


def tokens_file(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is not None and "static" in info.data.get("auth", ()):
        # `stat_scope` is validated before this field; it is missing here only if it is invalid.
        token_file.check_scopes(path, info.data.get("stat_scope", ""))
    return path


def quotas_file(path: Path | None) -> Path | None:
    if path is not None:
        quotas.read(path)
    return path


def peers_file(path: Path | None) -> Path | None:
    if path is not None:
        read_peers(path)
    return path


def region_name(name: str) -> str:
    if name and (name == ALL or not re.fullmatch(REGION_NAME, name)):
        raise ValueError(f"{name!r} is not the name of a region; allowed: 1 to 32 of a-z 0-9 -, not {ALL}; example: eu")
    return name


def policies_file(path: Path | None) -> Path | None:
    if path is not None:
        reporting_policy.read(path)
    return path


Url = Annotated[str, AfterValidator(http_url), AfterValidator(required_by_method)]


def has_topic(ingest: bool, info: ValidationInfo) -> bool:
    # `topics` is validated before this field; it is missing here only if it is invalid.
    topics = info.data.get("topics")
    if ingest and topics is not None and not topics_by_event(topics):
        raise ValueError(f"is on, but {PREFIX}TOPICS binds no topic to any of {', '.join(EVENTS)}")
    return ingest


def holds_one_body(in_flight: int, info: ValidationInfo) -> int:
    if in_flight < info.data.get("ingest_max_bytes", 0):
        raise ValueError(f"is less than {PREFIX}INGEST_MAX_BYTES: a body of that size would always be refused")
    return in_flight


def long_enough(secret: SecretStr) -> SecretStr:
    if 0 < len(secret.get_secret_value()) < MIN_SECRET_CHARS:
        raise ValueError(f"must have at least {MIN_SECRET_CHARS} characters; make one with: openssl rand -hex 32")
    return secret


Secret = Annotated[SecretStr, AfterValidator(long_enough)]


def has_issuer(client_id: str, info: ValidationInfo) -> str:
    # Fields that are missing here are invalid, which is reported already.
    if client_id and "auth" in info.data and not {"jwt", "introspection"} & set(info.data["auth"]):
        raise ValueError(f"{PREFIX}AUTH lists neither jwt nor introspection: no token of an issuer would be accepted")
    if client_id and not origin_of(info.data.get("auth_issuer", "https://at.fault")):
        raise ValueError(f"{PREFIX}AUTH_ISSUER must be the http:// or https:// URL of the identity provider")
    return client_id


def header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", name):
        raise ValueError(f"{name!r} is not the name of a header; allowed: 1 to 64 of A-Z a-z 0-9 -")
    return name


def network(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an address or a network such as 10.0.3.0/24") from error


def exact_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if origin != origin_of(origin):
            raise ValueError(f"{masked_url(origin)!r} is not an origin such as https://login.example.com")
    return origins


def cors_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" not in origins:
        return exact_origins(origins)
    if len(origins) > 1:
        raise ValueError("* allows every origin, so it cannot be combined with others")
    return origins
