"""Certificates that settings name. They are read with the settings, so an error names its setting."""

from __future__ import annotations

import socket
import ssl
from typing import Final, NamedTuple

CONNECT_S: Final = 2.0
ALERT_S: Final = 0.5
"""Wait for an alert: in TLS 1.3 a server refuses our certificate only after the handshake."""


class CertificateFiles(NamedTuple):
    """Paths, and the key's password. Empty: the system's CA certificates; no client certificate; no password."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    password: str = ""


class CertificateSettings(NamedTuple):
    """The names of the settings that provide `CertificateFiles`."""

    ca: str
    certificate: str
    key: str
    password: str


def ssl_context(files: CertificateFiles, names: CertificateSettings) -> ssl.SSLContext:
    """A client's context; it checks certificate chain and host name. Raises ValueError that names the setting."""
    if files.key and not files.certificate:
        raise ValueError(f"{names.key} needs {names.certificate}")
    try:
        context = ssl.create_default_context(cafile=files.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{names.ca}={files.ca}: {_reason(error, 'no certificates in PEM')}") from error
    if files.certificate:
        _require_readable(files.certificate, names.certificate)
        if files.key:
            _require_readable(files.key, names.key)
        password_requested = False

        def password() -> str:
            nonlocal password_requested
            password_requested = True
            return files.password

        try:
            context.load_cert_chain(files.certificate, files.key or None, password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError(f"{names.key}: is not the key of {names.certificate}") from error
            if password_requested:
                # OpenSSL asked for the password, so the password is the likeliest cause.
                wrong = "does not decrypt" if files.password else "is not set, but is needed for"
                raise ValueError(f"{names.password}: {wrong} the key of {names.certificate}") from error
            subject = f"{names.certificate} and {names.key}" if files.key else names.certificate
            raise ValueError(f"{subject}: must contain a certificate and its key in PEM") from error
    return context


def probe(connection: socket.socket, host: str, client: ssl.SSLContext) -> None:
    """Shake hands, send nothing, and wait ALERT_S: a server that accepts us stays silent.

    Raises ssl.SSLError for an alert, TimeoutError if the server stays silent, OSError otherwise.
    """
    with client.wrap_socket(connection, server_hostname=host) as secured:
        secured.settimeout(ALERT_S)
        secured.recv(1)


def _require_readable(path: str, setting: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ValueError(f"{setting}={path}: {_reason(error, '')}") from error


def _reason(error: OSError, default: str) -> str:
    # An SSLError is an OSError, but its text is a source line of OpenSSL.
    return default if isinstance(error, ssl.SSLError) else (error.strerror or str(error))
