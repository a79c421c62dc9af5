"""Settings of the connection to Kafka: brokers, TLS, sign-in; as librdkafka takes them, and as Python does."""

from __future__ import annotations

import ssl
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from schemas.connections import tls
from schemas.prefix import PREFIX

KAFKA_FILES: Final = tls.CertificateSettings(
    *(f"{PREFIX}KAFKA_SSL_{name}" for name in ("CAFILE", "CERTFILE", "KEYFILE", "KEY_PASSWORD"))
)


def http_url(url: str) -> str:
    """Empty, or a URL of HTTP. Raises ValueError."""
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be an http:// or https:// URL")
    return url


def _is_set(value: str | SecretStr) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


class KafkaConnectionSettings(BaseSettings):
    """How to reach Kafka, for whatever reads from it or writes to it."""

    kafka_bootstrap_servers: str = Field(
        "127.0.0.1:9092", min_length=1, description="Brokers to begin with: host:port, host:port."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to."
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "", description="With a SASL protocol: how to sign in."
    )
    kafka_sasl_username: str = Field("", description="With PLAIN or SCRAM.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="With PLAIN or SCRAM.")
    kafka_oauth_token_url: Annotated[str, AfterValidator(http_url)] = Field(
        "", description="With OAUTHBEARER: where tokens are issued (OAuth 2 client credentials)."
    )
    kafka_oauth_client_id: str = Field("", description="With OAUTHBEARER: the client that we are there.")
    kafka_oauth_client_secret: SecretStr = Field(SecretStr(""), description="Secret of KAFKA_OAUTH_CLIENT_ID.")
    kafka_oauth_scope: str = Field("", description="Scope that is asked for with each token, if any.")
    kafka_oauth_cafile: str = Field(
        "", description="Authorities that sign KAFKA_OAUTH_TOKEN_URL's server; empty: the system's."
    )
    kafka_ssl_cafile: str = Field("", description="Authorities that sign the brokers; empty: the system's.")
    kafka_ssl_certfile: str = Field("", description="Our certificate, where brokers ask for one.")
    kafka_ssl_keyfile: str = Field("", description="The key of KAFKA_SSL_CERTFILE.")
    kafka_ssl_key_password: SecretStr = Field(SecretStr(""), description="Password of that key, if it is encrypted.")
    kafka_idempotence: bool = Field(True, description="Idempotent producing; off only for brokers without it.")

    @model_validator(mode="after")
    def _kafka_is_whole(self) -> Self:
        protocol = self.kafka_security_protocol
        if protocol.startswith("SASL"):
            self._sasl_is_whole()
        if self._speaks_kafka():
            if not protocol.endswith("SSL") and any(self._kafka_files()[:-1]):
                # Whoever names an authority means TLS; going on in the clear would not tell.
                raise ValueError(
                    f"{PREFIX}KAFKA_SECURITY_PROTOCOL={protocol} is not encrypted, so that {PREFIX}KAFKA_SSL_CAFILE, "
                    "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE would mean nothing"
                )
            self.kafka_tls()
            if self.kafka_sasl_mechanism == "OAUTHBEARER":
                self.kafka_oauth_tls()
        return self

    def _sasl_is_whole(self) -> None:
        needed = ["kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password"]
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            needed = ["kafka_oauth_token_url", "kafka_oauth_client_id", "kafka_oauth_client_secret"]
        missing = [name for name in needed if not _is_set(getattr(self, name))]
        if missing:
            reason = self.kafka_sasl_mechanism or f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
            raise ValueError(
                f"{', '.join(PREFIX + name.upper() for name in missing)}: not set, and needed for {reason}"
            )

    def _speaks_kafka(self) -> bool:
        """Whether Kafka is used at all: only then its files must be there."""
        return True

    def _kafka_files(self) -> tls.CertificateFiles:
        password = self.kafka_ssl_key_password.get_secret_value()
        return tls.CertificateFiles(self.kafka_ssl_cafile, self.kafka_ssl_certfile, self.kafka_ssl_keyfile, password)

    def kafka_tls(self) -> ssl.SSLContext | None:
        """What Python connects to the brokers with; None in the clear. Raises ValueError by setting."""
        return (
            tls.ssl_context(self._kafka_files(), KAFKA_FILES) if self.kafka_security_protocol.endswith("SSL") else None
        )

    def kafka_oauth_tls(self) -> ssl.SSLContext:
        """What Python connects to the token endpoint with. Raises ValueError by setting."""
        return tls.ssl_context(
            tls.CertificateFiles(self.kafka_oauth_cafile),
            tls.CertificateSettings(f"{PREFIX}KAFKA_OAUTH_CAFILE", "", "", ""),
        )

    def kafka_client(self) -> dict[str, str]:
        """The connection as librdkafka's properties, for producers and admin clients. It checks host names."""
        properties = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanism": self.kafka_sasl_mechanism,
            "sasl.username": self.kafka_sasl_username,
            "sasl.password": self.kafka_sasl_password.get_secret_value(),
            "ssl.ca.location": self.kafka_ssl_cafile,
            "ssl.certificate.location": self.kafka_ssl_certfile,
            # librdkafka looks for the key here only; Python finds it behind the certificate too.
            "ssl.key.location": self.kafka_ssl_keyfile or self.kafka_ssl_certfile,
            "ssl.key.password": self.kafka_ssl_key_password.get_secret_value(),
        }
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            # It fetches tokens on a thread of its own, again when four fifths of their time are over.
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
