"""The file of the other regions' apis: name, URL, token file and CA certificates of each."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Annotated, Final

import msgspec

from api.settings.watched_file import read_bounded
from schemas.connections import tls
from schemas.connections.urls import split_url
from schemas.decoding_errors import describe
from schemas.settings import PREFIX

ALL: Final = "all"
"""The value of the parameter `region` for every region; no region may have this name."""
REGION_NAME: Final = r"[a-z0-9][a-z0-9-]{0,31}"
MAX_PEERS: Final = 32
MAX_TOKEN_CHARS: Final = 8_000
FILES: Final = tls.CertificateSettings("ca", "certificate", "key", "a password, which a peer cannot have")
EXAMPLE: Final = '[{"name": "us", "url": "https://authtally.us.example.com", "token_file": "/etc/authtally/us.token"}]'


class PeerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One element of the file."""

    name: Annotated[str, msgspec.Meta(pattern=rf"^{REGION_NAME}\Z")]
    url: str
    """The api's origin, or a prefix under which it is served."""
    token_file: str
    """A file with a token for the scope `sketches:read`, and nothing else."""
    ca: str = ""
    """CA certificates (PEM) of the api; empty: the system's."""
    certificate: str = ""
    """Client certificate (PEM), for a proxy before the api that asks for one."""
    key: str = ""
    """Its key, without a password; empty: in the file `certificate`."""


def read(path: Path, own: str = "") -> list[PeerEntry]:
    """The entries of a file; `own` is the name of the own region. Raises ValueError with the fault and its place."""
    return decode(path, read_bounded(path), own)


def decode(path: Path, content: bytes, own: str = "") -> list[PeerEntry]:
    """The entries of a file's content. Raises ValueError."""
    try:
        entries = msgspec.json.decode(content, type=list[PeerEntry])
    except msgspec.DecodeError as error:
        fault = describe(error, content) if isinstance(error, msgspec.ValidationError) else str(error)
        raise ValueError(f"{path} is not a list of peers: {fault}; example: {EXAMPLE}") from error
    if len(entries) > MAX_PEERS:
        raise ValueError(f"{path} contains {len(entries)} peers; allowed: 0 to {MAX_PEERS}; example: {EXAMPLE}")
    if own and own in [entry.name for entry in entries]:
        raise ValueError(f"{path}: a peer has the name of {PREFIX}REGION, {own}")
    for number, entry in enumerate(entries):
        try:
            _check(entry, [other.name for other in entries[:number]])
        except ValueError as error:
            raise ValueError(f"{path}: [{number}] ({entry.name}): {error}") from error
    return entries


def read_token(content: bytes) -> str:
    """The token in the content of a token file. Raises ValueError, which never contains it."""
    token = content.decode("ascii", "replace").strip()
    if not (0 < len(token) <= MAX_TOKEN_CHARS and re.fullmatch(r"[\x21-\x7e]+", token)):
        raise ValueError(f"must contain one token of 1 to {MAX_TOKEN_CHARS} visible ASCII characters")
    return token


def ssl_context(entry: PeerEntry) -> ssl.SSLContext:
    """Raises ValueError for a file without the certificates or the key."""
    return tls.ssl_context(tls.CertificateFiles(entry.ca, entry.certificate, entry.key), FILES)


def _check(entry: PeerEntry, earlier: list[str]) -> None:
    if entry.name == ALL:
        raise ValueError(f"no region can be named {ALL}: `region={ALL}` asks for every region")
    if entry.name in earlier:
        raise ValueError("two peers have this name")
    parts = split_url(entry.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("url must be http:// or https:// with a host, and without user, query and fragment")
    try:
        read_token(read_bounded(Path(entry.token_file)))
    except ValueError as error:
        raise ValueError(f"token_file {entry.token_file}: {error}") from error
    ssl_context(entry)
