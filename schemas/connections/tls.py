"""Certificates that settings name: files are read when the settings are, so that a wrong one is told by its name."""

from __future__ import annotations

import socket
import ssl
from typing import Final, NamedTuple

CONNECT_S: Final = 2.0
ALERT_S: Final = 0.5
"""For a server that refuses our certificate: by TLS 1.3 it says so only after the handshake."""


class CertificateFiles(NamedTuple):
    """Paths, and what encrypts the key. Empty: the system's authorities; no certificate of ours; no password."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    password: str = ""


class CertificateSettings(NamedTuple):
    """The settings that `CertificateFiles` are from."""

    ca: str
    certificate: str
    key: str
    password: str


def ssl_context(files: CertificateFiles, names: CertificateSettings) -> ssl.SSLContext:
    """What a client connects with: the server's chain and host name are checked. Raises ValueError by setting."""
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
                # A key whose file asks for a password is named by that, whatever else may be wrong with it.
                wrong = "does not open" if files.password else "is not set, and needed for"
                raise ValueError(f"{names.password}: {wrong} the key of {names.certificate}") from error
            subject = f"{names.certificate} and {names.key}" if files.key else names.certificate
            raise ValueError(f"{subject}: no certificate with its key, both in PEM") from error
    return context


def probe(connection: socket.socket, host: str, client: ssl.SSLContext) -> None:
    """Shake hands, ask nothing, and wait a moment: what a server says unasked is an alert, or the end.

    Raises ssl.SSLError for an alert and OSError otherwise, TimeoutError when it has nothing to complain of.
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
    # An SSLError is an OSError whose text names a line of OpenSSL.
    return default if isinstance(error, ssl.SSLError) else (error.strerror or str(error))
