"""Settings of the connection to Kafka: brokers, TLS, credentials; as properties of librdkafka and as SSL contexts."""

from __future__ import annotations

import ssl
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from schemas.connections import tls
from schemas.connections.urls import split_url
from schemas.prefix import PREFIX

KAFKA_FILES: Final = tls.CertificateSettings(
    *(f"{PREFIX}KAFKA_SSL_{name}" for name in ("CAFILE", "CERTFILE", "KEYFILE", "KEY_PASSWORD"))
)


SASL_SETTINGS: Final = ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
OAUTH_SETTINGS: Final = ("kafka_oauth_token_url", "kafka_oauth_client_id", "kafka_oauth_client_secret")


def http_url(url: str) -> str:
    """Check that `url` is empty or an HTTP URL. Raises ValueError."""
    parts = split_url(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be an http:// or https:// URL")
    return url


def _brokers(addresses: str) -> str:
    if "@" in addresses or "://" in addresses:
        # Without the value, which may have a password.
        raise ValueError(
            "has a user, a password or a scheme; allowed: host:port, host:port; a user and password belong in "
            f"{PREFIX}KAFKA_SASL_USERNAME and {PREFIX}KAFKA_SASL_PASSWORD"
        )
    return addresses


def _is_set(value: str | SecretStr) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


class KafkaConnectionSettings(BaseSettings):
    """The connection to Kafka, for readers and writers."""

    kafka_bootstrap_servers: Annotated[str, AfterValidator(_brokers)] = Field(
        "127.0.0.1:9092", min_length=1, description="Brokers of the first connection: host:port, host:port."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol of the brokers' listener."
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "", description="SASL mechanism, for the SASL protocols.", examples=["SCRAM-SHA-512"]
    )
    kafka_sasl_username: str = Field("", description="User name for PLAIN or SCRAM.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="Password for PLAIN or SCRAM.")
    kafka_oauth_token_url: Annotated[str, AfterValidator(http_url)] = Field(
        "",
        description="For OAUTHBEARER: URL of the token endpoint (OAuth 2 client credentials).",
        examples=["https://login.example.com/oauth2/token"],
    )
    kafka_oauth_client_id: str = Field("", description="For OAUTHBEARER: our client id at the token endpoint.")
    kafka_oauth_client_secret: SecretStr = Field(SecretStr(""), description="Client secret of KAFKA_OAUTH_CLIENT_ID.")
    kafka_oauth_scope: str = Field("", description="Scope to request with each token, if any.")
    kafka_oauth_cafile: str = Field(
        "", description="CA certificates (PEM) for the server of KAFKA_OAUTH_TOKEN_URL; empty: the system's."
    )
    kafka_ssl_cafile: str = Field("", description="CA certificates (PEM) for the brokers; empty: the system's.")
    kafka_ssl_certfile: str = Field("", description="Client certificate (PEM), if the brokers require one.")
    kafka_ssl_keyfile: str = Field("", description="Private key of KAFKA_SSL_CERTFILE.")
    kafka_ssl_key_password: SecretStr = Field(
        SecretStr(""), description="Password of that private key, if it is encrypted."
    )
    kafka_idempotence: bool = Field(
        True, description="Whether producers are idempotent; off only for brokers that do not support it."
    )

    @model_validator(mode="after")
    def _kafka_is_whole(self) -> Self:
        protocol = self.kafka_security_protocol
        if protocol.startswith("SASL"):
            self._sasl_is_whole()
        elif self._speaks_kafka():
            self._sasl_is_not_set()
        if self._speaks_kafka():
            if not protocol.endswith("SSL") and any(self._kafka_files()[:-1]):
                # These files show that TLS is meant; plain text would ignore them silently.
                raise ValueError(
                    f"{PREFIX}KAFKA_SECURITY_PROTOCOL={protocol} is not encrypted, so {PREFIX}KAFKA_SSL_CAFILE, "
                    "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE would have no effect"
                )
            self.kafka_tls()
            if self.kafka_sasl_mechanism == "OAUTHBEARER":
                self.kafka_oauth_tls()
        return self

    def _sasl_is_whole(self) -> None:
        needed = OAUTH_SETTINGS if self.kafka_sasl_mechanism == "OAUTHBEARER" else SASL_SETTINGS
        missing = [name for name in needed if not _is_set(getattr(self, name))]
        if missing:
            reason = self.kafka_sasl_mechanism or f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
            raise ValueError(
                f"{', '.join(PREFIX + name.upper() for name in missing)}: not set, but needed for {reason}"
            )

    def _sasl_is_not_set(self) -> None:
        # These settings show that a sign-in is meant; the other protocols would ignore them silently.
        given = [name for name in (*SASL_SETTINGS, *OAUTH_SETTINGS) if _is_set(getattr(self, name))]
        if given:
            protocol = self.kafka_security_protocol
            meant = "SASL_SSL" if protocol == "SSL" else "SASL_SSL or SASL_PLAINTEXT"
            raise ValueError(
                f"{PREFIX}KAFKA_SECURITY_PROTOCOL={protocol} does not sign in, so "
                f"{', '.join(PREFIX + name.upper() for name in given)} would have no effect; "
                f"allowed with them: {meant}; example: {PREFIX}KAFKA_SECURITY_PROTOCOL=SASL_SSL"
            )

    def _speaks_kafka(self) -> bool:
        """Whether Kafka is used; its files are checked only then."""
        return True

    def _kafka_files(self) -> tls.CertificateFiles:
        password = self.kafka_ssl_key_password.get_secret_value()
        return tls.CertificateFiles(self.kafka_ssl_cafile, self.kafka_ssl_certfile, self.kafka_ssl_keyfile, password)

    def kafka_tls(self) -> ssl.SSLContext | None:
        """Python's context for the brokers; None without TLS. Raises ValueError that names the setting."""
        return (
            tls.ssl_context(self._kafka_files(), KAFKA_FILES) if self.kafka_security_protocol.endswith("SSL") else None
        )

    def kafka_oauth_tls(self) -> ssl.SSLContext:
        """Python's context for the token endpoint. Raises ValueError that names the setting."""
        return tls.ssl_context(
            tls.CertificateFiles(self.kafka_oauth_cafile),
            tls.CertificateSettings(f"{PREFIX}KAFKA_OAUTH_CAFILE", "", "", ""),
        )

    def kafka_client(self) -> dict[str, str]:
        """The properties of librdkafka for producers and admin clients. librdkafka checks host names."""
        properties = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanism": self.kafka_sasl_mechanism,
            "sasl.username": self.kafka_sasl_username,
            "sasl.password": self.kafka_sasl_password.get_secret_value(),
            "ssl.ca.location": self.kafka_ssl_cafile,
            "ssl.certificate.location": self.kafka_ssl_certfile,
            # librdkafka reads the key from this file only; Python also finds it in the certificate's file.
            "ssl.key.location": self.kafka_ssl_keyfile or self.kafka_ssl_certfile,
            "ssl.key.password": self.kafka_ssl_key_password.get_secret_value(),
        }
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            # librdkafka fetches tokens on its own thread, again after four fifths of their lifetime.
            properties |= {
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.token.endpoint.url": self.kafka_oauth_token_url,
                "sasl.oauthbearer.client.id": self.kafka_oauth_client_id,
                "sasl.oauthbearer.client.secret": self.kafka_oauth_client_secret.get_secret_value(),
                "sasl.oauthbearer.scope": self.kafka_oauth_scope,
                "https.ca.location": self.kafka_oauth_cafile,
            }
        return {name: value for name, value in properties.items() if value}

    def kafka_producer(self) -> dict[str, Any]:
        """The properties of every librdkafka producer. A record counts as sent once all in-sync replicas have it."""
        return {
            **self.kafka_client(),
            "acks": "all",
            "enable.idempotence": self.kafka_idempotence,
            # The partitioner of Kafka's Java clients: equal keys go to one partition from any client.
            "partitioner": "murmur2_random",
            # librdkafka would repeat its connection messages as long as a broker is down.
            "log_level": 0,
        }
