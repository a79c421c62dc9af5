"""Why Kafka does not take us, by the setting to look at.

Client libraries tell of a failed connection in words of OpenSSL, or only that a time was up. So the connection is tried
once more here, step by step as far as no protocol of Kafka's is needed: token, TCP, TLS.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import Final, NamedTuple

from schemas.connections import oauth, tls
from schemas.connections.kafka_settings import KafkaConnectionSettings
from schemas.prefix import PREFIX

MAX_TRIED: Final = 3
"""Brokers of the list."""

EXPIRED: Final = 10
OTHER_NAME: Final = (62, 64)
"""OpenSSL's X509_V_ERR_… for host names and addresses."""


class _Server(NamedTuple):
    host: str
    port: int

    @property
    def text(self) -> str:
        return f"{self.host}:{self.port}"


def diagnose(settings: KafkaConnectionSettings, client_errors: Iterable[str], default: str) -> str:
    """One line that names a setting. `client_errors` is what the client library said of its connections.

    Blocks for seconds.
    """
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        try:
            oauth.fetch(settings)
        except oauth.TokenError as error:
            return str(error)
    listed = settings.kafka_bootstrap_servers
    refused = []
    for server in _servers(listed)[:MAX_TRIED]:
        try:
            diagnosis = (
                _try_tls(settings, server) if settings.kafka_security_protocol.endswith("SSL") else _try_plain(server)
            )
        except OSError as error:
            refused.append(f"{server.text}: {error.strerror or error}")
            continue
        except ValueError as error:
            return str(error)
        if diagnosis:
            return diagnosis
        return _sign_in_error(settings, list(client_errors)) or (
            f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS={listed}: {default}; {server.text} accepts connections, so perhaps "
            f"it is no {settings.kafka_security_protocol} listener ({PREFIX}KAFKA_SECURITY_PROTOCOL)"
        )
    return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS={listed}: {'; '.join(refused) or default}"


def _servers(listed: str) -> list[_Server]:
    diagnosis = []
    for server in listed.split(","):
        host, _, port = server.strip().rpartition(":")
        if host and port.isdecimal():
            diagnosis.append(_Server(host.strip("[]"), int(port)))
    return diagnosis


def _try_tls(settings: KafkaConnectionSettings, server: _Server) -> str | None:
    """Raises OSError when nobody listens, ValueError when a file of ours is unfit."""
    context = settings.kafka_tls()
    assert context is not None
    with socket.create_connection(server, tls.CONNECT_S) as connection:
        try:
            tls.probe(connection, server.host, context)
        except ssl.SSLCertVerificationError as error:
            return _certificate_error(server, error)
        except ssl.SSLError as error:
            if "ALERT" in (error.reason or ""):
                return _client_certificate_error(settings, server, (error.reason or "").lower().replace("_", " "))
            return _tls_missing_error(settings, server)
        except TimeoutError:
            # Nothing to complain of.
            return None
        except OSError:
            return _tls_missing_error(settings, server)
    return None


def _certificate_error(server: _Server, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == EXPIRED:
        return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: the certificate of {server.text} has expired"
    if error.verify_code in OTHER_NAME:
        return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: the certificate of {server.text} is for other host names"
    return f"{PREFIX}KAFKA_SSL_CAFILE: does not vouch for the certificate of {server.text} ({error.verify_message})"


def _client_certificate_error(settings: KafkaConnectionSettings, server: _Server, alert: str) -> str:
    if settings.kafka_ssl_certfile:
        return f"{PREFIX}KAFKA_SSL_CERTFILE={settings.kafka_ssl_certfile}: {server.text} refuses it ({alert})"
    return f"{PREFIX}KAFKA_SSL_CERTFILE: is not set, and {server.text} asks for a certificate ({alert})"


def _tls_missing_error(settings: KafkaConnectionSettings, server: _Server) -> str:
    protocol = settings.kafka_security_protocol
    return f"{PREFIX}KAFKA_SECURITY_PROTOCOL={protocol}: {server.text} does not speak TLS"


def _try_plain(server: _Server) -> str | None:
    """Raises OSError when nobody listens."""
    # Of a stranger nothing is believed or told: this is only to see whether it answers as TLS does.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(server, tls.CONNECT_S) as connection:
        try:
            with context.wrap_socket(connection):
                pass
        except OSError as error:
            if not (isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")):
                return None
    return f"{PREFIX}KAFKA_SECURITY_PROTOCOL: {server.text} speaks TLS"


def _sign_in_error(settings: KafkaConnectionSettings, client_errors: list[str]) -> str | None:
    mechanism = settings.kafka_sasl_mechanism
    for text in reversed(client_errors):
        if "supported mechanisms:" in text:
            offered = text.partition("supported mechanisms:")[2].partition("(after")[0].strip()
            if offered:
                return f"{PREFIX}KAFKA_SASL_MECHANISM={mechanism}: the broker takes {offered}"
            protocol = settings.kafka_security_protocol
            return f"{PREFIX}KAFKA_SECURITY_PROTOCOL={protocol}: the broker's listener knows no SASL"
        if "SASL authentication error" in text:
            if mechanism == "OAUTHBEARER":
                return (
                    f"{PREFIX}KAFKA_OAUTH_TOKEN_URL, {PREFIX}KAFKA_OAUTH_SCOPE: the broker does not take the tokens "
                    "issued there"
                )
            return f"{PREFIX}KAFKA_SASL_USERNAME, {PREFIX}KAFKA_SASL_PASSWORD: refused by the broker ({mechanism})"
    return None
