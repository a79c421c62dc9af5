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
from schemas.connections.kafka_settings import KafkaConnection
from schemas.prefix import PREFIX

TRIED: Final = 3
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


def why(settings: KafkaConnection, told: Iterable[str], otherwise: str) -> str:
    """One line that names a setting. `told` is what the client library said of its connections. Blocks for seconds."""
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        try:
            oauth.fetch(settings)
        except oauth.TokenError as error:
            return str(error)
    listed = settings.kafka_bootstrap_servers
    refused = []
    for server in _servers(listed)[:TRIED]:
        try:
            found = _encrypted(settings, server) if settings.kafka_security_protocol.endswith("SSL") else _open(server)
        except OSError as error:
            refused.append(f"{server.text}: {error.strerror or error}")
            continue
        except ValueError as error:
            return str(error)
        if found:
            return found
        return _signing_in(settings, list(told)) or (
            f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS={listed}: {otherwise}; {server.text} accepts connections, so perhaps "
            f"it is no {settings.kafka_security_protocol} listener ({PREFIX}KAFKA_SECURITY_PROTOCOL)"
        )
    return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS={listed}: {'; '.join(refused) or otherwise}"


def _servers(listed: str) -> list[_Server]:
    found = []
    for server in listed.split(","):
        host, _, port = server.strip().rpartition(":")
        if host and port.isdecimal():
            found.append(_Server(host.strip("[]"), int(port)))
    return found


def _encrypted(settings: KafkaConnection, server: _Server) -> str | None:
    """Raises OSError when nobody listens, ValueError when a file of ours is unfit."""
    context = settings.kafka_tls()
    assert context is not None
    with socket.create_connection(server, tls.CONNECT_S) as connection:
        try:
            tls.hear(connection, server.host, context)
        except ssl.SSLCertVerificationError as error:
            return _unverified(server, error)
        except ssl.SSLError as error:
            if "ALERT" in (error.reason or ""):
                return _our_certificate(settings, server, (error.reason or "").lower().replace("_", " "))
            return _no_tls(settings, server)
        except TimeoutError:
            # Nothing to complain of.
            return None
        except OSError:
            return _no_tls(settings, server)
    return None


def _unverified(server: _Server, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == EXPIRED:
        return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: the certificate of {server.text} has expired"
    if error.verify_code in OTHER_NAME:
        return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: the certificate of {server.text} is for other host names"
    return f"{PREFIX}KAFKA_SSL_CAFILE: does not vouch for the certificate of {server.text} ({error.verify_message})"


def _our_certificate(settings: KafkaConnection, server: _Server, alert: str) -> str:
    if settings.kafka_ssl_certfile:
        return f"{PREFIX}KAFKA_SSL_CERTFILE={settings.kafka_ssl_certfile}: {server.text} refuses it ({alert})"
    return f"{PREFIX}KAFKA_SSL_CERTFILE: is not set, and {server.text} asks for a certificate ({alert})"


def _no_tls(settings: KafkaConnection, server: _Server) -> str:
    protocol = settings.kafka_security_protocol
    return f"{PREFIX}KAFKA_SECURITY_PROTOCOL={protocol}: {server.text} does not speak TLS"


def _open(server: _Server) -> str | None:
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


def _signing_in(settings: KafkaConnection, told: list[str]) -> str | None:
    mechanism = settings.kafka_sasl_mechanism
    for text in reversed(told):
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
