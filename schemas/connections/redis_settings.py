"""Settings of the connection to Redis: address, credentials, TLS; single server, Sentinel or Cluster."""

from __future__ import annotations

import ssl
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from schemas.connections import tls
from schemas.connections.sentinel_url import parse_sentinel_url
from schemas.connections.urls import split_url
from schemas.prefix import PREFIX

REDIS_FILES: Final = tls.CertificateSettings(
    *(f"{PREFIX}REDIS_{name}" for name in ("CA_FILE", "CERT_FILE", "KEY_FILE", "KEY_PASSWORD"))
)


def _redis_scheme(url: SecretStr) -> SecretStr:
    """The URL is a secret, since it may contain a password; `rediss://` means TLS."""
    scheme = url.get_secret_value().partition("://")[0].lower()
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must be a redis://, rediss:// or unix:// URL")
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_redis_scheme)]


class RedisConnectionSettings(BaseSettings):
    """The connection to the ledger's Redis. A `rediss://` URL means TLS with checks of chain and host name."""

    redis_url: RedisUrl = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="URL of the ledger's Redis or Valkey.",
        examples=["redis://127.0.0.1:6379/0"],
    )
    redis_cluster: bool = Field(False, description="Whether REDIS_URL names a node of a Cluster.")
    redis_sentinel: str = Field(
        "",
        description="Name of the Sentinel master; REDIS_URL then names the sentinels, host:port,host:port.",
    )
    redis_sentinel_username: str = Field("", description="User name for the sentinels, if they require one.")
    redis_sentinel_password: SecretStr = Field(SecretStr(""), description="Password for the sentinels, if any.")
    redis_ca_file: str = Field("", description="CA certificates (PEM) for the rediss:// servers; empty: the system's.")
    redis_cert_file: str = Field("", description="Client certificate (PEM), if Redis requires one.")
    redis_key_file: str = Field("", description="Private key of REDIS_CERT_FILE, if it is in a separate file.")
    redis_key_password: SecretStr = Field(
        SecretStr(""), description="Password of that private key, if it is encrypted."
    )

    @model_validator(mode="after")
    def _redis_is_whole(self) -> Self:
        if self.redis_cluster and self.redis_sentinel:
            raise ValueError(f"{PREFIX}REDIS_CLUSTER and {PREFIX}REDIS_SENTINEL exclude each other")
        if self.redis_sentinel:
            try:
                parse_sentinel_url(self.redis_url.get_secret_value())
            except ValueError:
                # Without Python's text, which can contain a part of the password.
                raise ValueError(f"{PREFIX}REDIS_URL: not a list of host:port and a database") from None
        for url in self._redis_urls()[1 if self.redis_sentinel else 0 :]:
            split_url(url.get_secret_value())
        encrypted = any(self.uses_tls(url.get_secret_value()) for url in self._redis_urls())
        files = self._redis_files()
        if encrypted:
            tls.ssl_context(files, REDIS_FILES)
        elif any(files[:-1]):
            # These files show that TLS is meant; plain text would ignore them silently.
            raise ValueError(
                f"{PREFIX}REDIS_URL is not a rediss:// URL, so {PREFIX}REDIS_CA_FILE, REDIS_CERT_FILE and "
                "REDIS_KEY_FILE would have no effect"
            )
        return self

    def _redis_urls(self) -> list[SecretStr]:
        """Every URL for which the TLS files are used."""
        return [self.redis_url]

    def _redis_files(self) -> tls.CertificateFiles:
        password = self.redis_key_password.get_secret_value()
        return tls.CertificateFiles(self.redis_ca_file, self.redis_cert_file, self.redis_key_file, password)

    def redis_tls(self) -> dict[str, Any]:
        """The TLS options of redis-py; only for a `rediss://` URL."""
        files = self._redis_files()
        options = {
            "ssl_ca_certs": files.ca,
            "ssl_certfile": files.certificate,
            "ssl_keyfile": files.key,
            "ssl_password": files.password,
        }
        return {name: value for name, value in options.items() if value} | {"ssl_check_hostname": True}

    def redis_tls_context(self) -> ssl.SSLContext:
        """The same for a socket. Raises ValueError if a file is not usable."""
        return tls.ssl_context(self._redis_files(), REDIS_FILES)

    def redis_sentinel_login(self) -> dict[str, str | None]:
        """Credentials for the sentinels, which have their own users."""
        password = self.redis_sentinel_password.get_secret_value()
        return {"username": self.redis_sentinel_username or None, "password": password or None}

    @staticmethod
    def uses_tls(url: str) -> bool:
        return urlsplit(url).scheme == "rediss"
