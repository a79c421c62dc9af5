"""Names the setting to check when a connection to Kafka fails.

Client libraries report a failed connection in OpenSSL's words, or only as a timeout. This module therefore connects
again step by step, as far as that needs no Kafka protocol: token, TCP, TLS.
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
"""Brokers of KAFKA_BOOTSTRAP_SERVERS that are tried."""

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
    """One line that names a setting. `client_errors` are the client library's messages about its connections.

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
            f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS={listed}: {default}; {server.text} accepts connections, but may "
            f"not be a {settings.kafka_security_protocol} listener ({PREFIX}KAFKA_SECURITY_PROTOCOL)"
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
    """Raises OSError if nothing listens, ValueError if one of our files is not usable."""
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
            # The server stayed silent, so it accepts us.
            return None
        except OSError:
            return _tls_missing_error(settings, server)
    return None


def _certificate_error(server: _Server, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == EXPIRED:
        return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: the certificate of {server.text} has expired"
    if error.verify_code in OTHER_NAME:
        return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: the certificate of {server.text} is for other host names"
    return f"{PREFIX}KAFKA_SSL_CAFILE: does not verify the certificate of {server.text} ({error.verify_message})"


def _client_certificate_error(settings: KafkaConnectionSettings, server: _Server, alert: str) -> str:
    if settings.kafka_ssl_certfile:
        return f"{PREFIX}KAFKA_SSL_CERTFILE={settings.kafka_ssl_certfile}: {server.text} refuses it ({alert})"
    return f"{PREFIX}KAFKA_SSL_CERTFILE: is not set, but {server.text} requires a certificate ({alert})"


def _tls_missing_error(settings: KafkaConnectionSettings, server: _Server) -> str:
    protocol = settings.kafka_security_protocol
    return f"{PREFIX}KAFKA_SECURITY_PROTOCOL={protocol}: {server.text} does not speak TLS"


def _try_plain(server: _Server) -> str | None:
    """Raises OSError if nothing listens."""
    # Certificate checks are off: this connection only tests whether the server speaks TLS, and sends nothing.
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
                return f"{PREFIX}KAFKA_SASL_MECHANISM={mechanism}: the broker accepts {offered}"
            protocol = settings.kafka_security_protocol
            return f"{PREFIX}KAFKA_SECURITY_PROTOCOL={protocol}: the broker's listener does not support SASL"
        if "SASL authentication error" in text:
            if mechanism == "OAUTHBEARER":
                return (
                    f"{PREFIX}KAFKA_OAUTH_TOKEN_URL, {PREFIX}KAFKA_OAUTH_SCOPE: the broker does not accept the tokens "
                    "issued there"
                )
            return f"{PREFIX}KAFKA_SASL_USERNAME, {PREFIX}KAFKA_SASL_PASSWORD: refused by the broker ({mechanism})"
    return None
