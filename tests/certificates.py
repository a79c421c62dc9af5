"""An authority for tests, and what it signs: files, as servers and clients are pointed at them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


class Certificate(NamedTuple):
    """PEM files: the certificate, its key, and both in one as Kafka's brokers read them."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs with a key of its own. Its certificate is `file`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        built = _started(self._name, self._name, self._key.public_key(), DAY)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        built = built.add_extension(usage, critical=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def sign(self, name: str, host: str = "127.0.0.1", *, days: float = 1, password: str | None = None) -> Certificate:
        """For server and client alike. Negative `days` ended that long ago; a password encrypts the key's own file."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = _started(_named(name), self._name, key.public_key(), days * DAY)
        built = built.add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        built = built.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        public = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = built.add_extension(public, critical=False).sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        locked = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
        made = Certificate(*(self._folder / f"{name}{end}" for end in (".crt", ".key", ".pem")))
        made.certificate.write_bytes(signed)
        made.key.write_bytes(_packed(key, locked))
        made.both.write_bytes(_packed(key, NoEncryption()) + signed)
        return made


def _packed(key: ec.EllipticCurvePrivateKey, locked: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _started(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lasts: timedelta
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + lasts
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(end, datetime.now(UTC)) - DAY)
        .not_valid_after(end)
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
