"""Forged and altered tokens: all are refused, with the same answer as no token at all."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.auth.jwks import signing_key
from tests.api.conftest import Serve
from tests.api.issuer import AUDIENCE, ISSUER, KEYS, Issuer, claims, public_jwk, token
from tests.api.sources import by_jwt

STAT: Final = "/jans-auth/restv1/internal/stat?month=202611"
ATTACKER: Final = "https://attacker.example"
SHA256: Final = hashes.SHA256()
PKCS1: Final = padding.PKCS1v15()

WEAK: Final = rsa.generate_private_key(public_exponent=65537, key_size=1024)
FOR_ENCRYPTION: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
BITCOIN: Final = ec.generate_private_key(ec.SECP256K1())
P384: Final = ec.generate_private_key(ec.SECP384R1())


def later() -> int:
    """Asked for when a token is made: a long run of tests would outlast a moment fixed at its start."""
    return int(time.time()) + 600


def at(claim: str, value: bytes) -> str:
    """A token of ours with a time that JSON can write and no clock can show."""
    moment = later()
    return by_us(
        text(claims(**{claim: moment})).replace(f'"{claim}": {moment}'.encode(), f'"{claim}": '.encode() + value)
    )


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def text(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def signing(head: object, body: object) -> str:
    return f"{b64(text(head))}.{b64(text(body))}"


def with_rsa(signed: str, key: Any = None) -> str:
    signature: bytes = (key or KEYS["rsa"][0]).sign(signed.encode(), PKCS1, SHA256)
    return f"{signed}.{b64(signature)}"


def with_hmac(signed: str, secret: bytes, digest: str = "sha256") -> str:
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), digest).digest())}"


def head(**changes: object) -> dict[str, object]:
    return {"alg": "RS256", "typ": "JWT", "kid": "rsa"} | changes


def by_us(body: object, **changes: object) -> str:
    """Signed by the issuer's own key: what is wrong is in the token, not in its signature."""
    return with_rsa(signing(head(**changes), body))


def by_stranger(**changes: object) -> str:
    return with_rsa(signing(head(**changes), claims()), KEYS["stranger"][0])


def unsigned(alg: object, signature: str = "") -> str:
    return f"{signing(head(alg=alg), claims())}.{signature}"


def public(encoding: Encoding, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    raw: bytes = KEYS["rsa"][0].public_key().public_bytes(encoding, form)
    return raw


def confused(secret: bytes, alg: str = "HS256", kid: object = "rsa") -> str:
    return with_hmac(signing(head(alg=alg, kid=kid), claims()), secret, f"sha{alg[2:]}")


def raw_json(*members: str) -> bytes:
    """Claims as text, so that a name can come twice."""
    good = claims()
    return ("{" + ",".join([*members, *(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in good.items())]) + "}").encode()


def doubled(name: str, last: object) -> bytes:
    good = json.dumps(claims())
    return f"{good[:-1]},{json.dumps(name)}:{json.dumps(last)}}}".encode()


def wrapped() -> str:
    """RFC 7515's JSON serialization."""
    protected, payload, signature = token().split(".")
    return json.dumps({"protected": protected, "payload": payload, "signature": signature}, separators=(",", ":"))


def signature_of_another() -> str:
    return f"{signing(head(), claims(sub='root'))}.{token().rsplit('.', 1)[1]}"


def ec_signature(signature: bytes) -> str:
    return f"{signing(head(alg='ES256', kid='ec'), claims())}.{b64(signature)}"


def ec_in_der() -> str:
    signed = signing(head(alg="ES256", kid="ec"), claims())
    return f"{signed}.{b64(KEYS['ec'][0].sign(signed.encode(), ec.ECDSA(SHA256)))}"


def ec_raw(key: ec.EllipticCurvePrivateKey, kid: str, size: int) -> str:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    signed = signing(head(alg="ES256", kid=kid), claims())
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256)))
    return f"{signed}.{b64(r.to_bytes(size, 'big') + s.to_bytes(size, 'big'))}"


def sha1() -> str:
    signed = signing(head(), claims())
    return f"{signed}.{b64(KEYS['rsa'][0].sign(signed.encode(), PKCS1, hashes.SHA1()))}"


def detached() -> str:
    before = b64(text(head(b64=False, crit=["b64"])))
    signature = KEYS["rsa"][0].sign(f"{before}.".encode() + text(claims()), PKCS1, SHA256)
    return f"{before}..{b64(signature)}"


NESTED: Final = b"[" * 2_000 + b"]" * 2_000
STRANGERS_JWK: Final = public_jwk("stranger")
MODULUS: Final = KEYS["rsa"][0].public_key().public_numbers().n.to_bytes(256, "big")


class Forged(NamedTuple):
    how: str
    make: Callable[[], str]


FORGED: Final = [
    # No signature, under every spelling of it
    *(
        Forged(f"alg {alg!r}, no signature", lambda alg=alg: unsigned(alg))  # type: ignore[misc]
        for alg in ("none", "None", "NONE", "nOnE", "", " none", None, 0, ["none"], {"none": 1})
    ),
    Forged("alg none with the signature of a good token", lambda: unsigned("none", token().rsplit(".", 1)[1])),
    Forged("alg none, base64 of nothing", lambda: unsigned("none", "====")),
    Forged("no alg at all", lambda: with_rsa(signing({"typ": "JWT", "kid": "rsa"}, claims()))),
    Forged("RS256 with an empty signature", lambda: unsigned("RS256")),
    Forged("RS256 with a signature of zeros", lambda: unsigned("RS256", b64(bytes(256)))),
    Forged("ES256 with a signature of zeros", lambda: ec_signature(bytes(64))),
    Forged("ES256 with an empty signature", lambda: ec_signature(b"")),
    Forged("ES256 with its signature in DER", ec_in_der),
    Forged(
        "EdDSA with a signature of zeros",
        lambda: signing(head(alg="EdDSA", kid="okp"), claims()) + "." + b64(bytes(64)),
    ),
    Forged("a signature that belongs to other claims", signature_of_another),
    Forged("a signature over SHA-1", sha1),
    Forged("a signature for another length of hash", lambda: with_rsa(signing(head(alg="RS512"), claims()))),
    # The public key as a secret
    Forged("HS256 with the key in PEM", lambda: confused(public(Encoding.PEM))),
    Forged("HS256 with the key in PEM, no line at its end", lambda: confused(public(Encoding.PEM).strip())),
    Forged("HS256 with the key in PKCS #1", lambda: confused(public(Encoding.PEM, PublicFormat.PKCS1))),
    Forged("HS256 with the key in DER", lambda: confused(public(Encoding.DER))),
    Forged("HS384 with the key in PEM", lambda: confused(public(Encoding.PEM), "HS384")),
    Forged("HS512 with the key in PEM", lambda: confused(public(Encoding.PEM), "HS512")),
    Forged("HS256 with the JWK", lambda: confused(text(public_jwk("rsa")))),
    Forged("HS256 with the modulus", lambda: confused(MODULUS)),
    Forged("HS256 with the modulus as the JWK writes it", lambda: confused(public_jwk("rsa")["n"].encode())),
    Forged("HS256 with the kid as its secret", lambda: confused(b"rsa")),
    Forged("HS256 with an empty secret", lambda: confused(b"")),
    Forged("HS256 with a secret that the key set publishes by mistake", lambda: confused(b"published", kid="oct")),
    # A key, or where to find one, in the token's own head
    Forged("jwk: a key of its own", lambda: by_stranger(jwk=STRANGERS_JWK)),
    Forged("jwk: a key of its own, and its kid", lambda: by_stranger(jwk=STRANGERS_JWK, kid="stranger")),
    Forged(
        "jwk: a secret of its own",
        lambda: with_hmac(signing(head(alg="HS256", jwk={"kty": "oct", "k": b64(b"k")}), claims()), b"k"),
    ),
    Forged("jku", lambda: by_stranger(jku=f"{ATTACKER}/jwks", kid="stranger")),
    Forged("x5u", lambda: by_stranger(x5u=f"{ATTACKER}/chain.pem", kid="stranger")),
    Forged("x5c", lambda: by_stranger(x5c=[base64.b64encode(public(Encoding.DER)).decode()], kid="stranger")),
    Forged("x5t of no certificate", lambda: by_stranger(x5t=b64(hashlib.sha256(b"").digest()[:20]))),
    Forged("kid: a file without bytes", lambda: confused(b"", kid="../../../../dev/null")),
    Forged("kid: a way out of a query", lambda: confused(b"key", kid="x' UNION SELECT 'key'--")),
    Forged("kid: a command", lambda: confused(b"", kid="|/bin/true")),
    Forged("kid: an address", lambda: by_stranger(kid=f"{ATTACKER}/jwks.json")),
    Forged("kid: a number", lambda: by_stranger(kid=0)),
    Forged("kid: a list", lambda: by_stranger(kid=["rsa"])),
    Forged("kid: an object", lambda: by_stranger(kid={"rsa": 1})),
    Forged("kid: null, where there are several keys", lambda: by_us(claims(), kid=None)),
    Forged("kid: empty", lambda: by_us(claims(), kid="")),
    Forged("kid: nearly another's", lambda: by_us(claims(), kid="rsa\x00")),
    Forged("kid: huge", lambda: by_stranger(kid="k" * 4000)),
    # Keys that are there for something else
    Forged("a key for encryption", lambda: with_rsa(signing(head(kid="enc"), claims()), FOR_ENCRYPTION)),
    Forged("a key of 1,024 bits", lambda: with_rsa(signing(head(kid="weak"), claims()), WEAK)),
    Forged("a curve that is not registered for ES256", lambda: ec_raw(BITCOIN, "bitcoin", 32)),
    Forged("ES256 on P-384", lambda: ec_raw(P384, "p384", 48)),
    Forged(
        "an RSA signature under the kid of an EC key", lambda: with_rsa(signing(head(alg="RS256", kid="ec"), claims()))
    ),
    Forged("an EC signature under the kid of an RSA key", lambda: ec_raw(KEYS["ec"][0], "rsa", 32)),
    # What must be understood, and is not
    Forged("crit: unknown", lambda: by_us(claims(), crit=["https://example/policy"], **{"https://example/policy": 1})),
    Forged("crit: named but not there", lambda: by_us(claims(), crit=["absent"])),
    Forged("crit: empty", lambda: by_us(claims(), crit=[])),
    Forged("crit: no list", lambda: by_us(claims(), crit="exp")),
    Forged("a detached payload", detached),
    # Shapes
    Forged("an encrypted token's five parts", lambda: f"{token()}.{b64(b'iv')}.{b64(b'tag')}"),
    Forged("four parts", lambda: f"{token()}.x"),
    Forged("two parts", lambda: token().rsplit(".", 1)[0]),
    Forged("nothing but dots", lambda: ".."),
    Forged("JSON serialization", wrapped),
    Forged("a head that is no JSON", lambda: with_rsa(signing(b"alg=RS256", claims()))),
    Forged("a head that is a list", lambda: with_rsa(signing(["RS256"], claims()))),
    Forged("a head that is nested deeply", lambda: with_rsa(signing(NESTED[:4_000], claims()))),
    Forged(
        "a head that holds alg twice", lambda: with_rsa(signing(b'{"alg":"none","kid":"rsa","alg":"RS256"}', claims()))
    ),
    Forged("claims that are no JSON", lambda: by_us(b"sub=root")),
    Forged("claims that are a list", lambda: by_us([claims()])),
    Forged("claims that are nested deeply", lambda: by_us(b'{"a":' + NESTED + b"}")),
    Forged("claims that are not UTF-8", lambda: by_us(text(claims())[:-1] + b',"x":"\xff"}')),
    Forged("aud twice, the right one last", lambda: by_us(raw_json('"aud":"other"'))),
    Forged("exp twice, the later one last", lambda: by_us(raw_json('"exp":1'))),
    Forged("scope twice, the larger one last", lambda: by_us(raw_json('"scope":"openid"'))),
    Forged("realms twice, the larger one last", lambda: by_us(doubled("realms", ["a"])[:-1] + b',"realms":["a","b"]}')),
    Forged("compressed claims", lambda: by_us(claims(), zip="DEF", crit=["zip"])),
    # Times
    Forged("expired", lambda: token(exp=int(time.time()) - 1)),
    Forged("expired long ago", lambda: token(exp=-1)),
    Forged("expires at infinity", lambda: at("exp", b"1e999")),
    Forged("expires at no number", lambda: at("exp", b"NaN")),
    Forged("expires when true", lambda: token(exp=True)),
    Forged("expires in a list", lambda: token(exp=[later()])),
    Forged("not yet valid", lambda: token(nbf=later())),
    Forged("valid from infinity on", lambda: at("nbf", b"1e999")),
    # Whose, and for whom
    Forged("an issuer that only begins like ours", lambda: token(iss=f"{ISSUER}.attacker.example")),
    Forged("our issuer with a path", lambda: token(iss=f"{ISSUER}/")),
    Forged("our issuer in capitals", lambda: token(iss=ISSUER.upper())),
    Forged("our issuer among others", lambda: by_us(claims(iss=[ISSUER, ATTACKER]))),
    Forged("an audience that only begins like ours", lambda: token(aud=f"{AUDIENCE}-admin")),
    Forged("an audience that ours begins like", lambda: token(aud=AUDIENCE[:-1])),
    Forged("our audience as a name", lambda: by_us(claims(aud={AUDIENCE: True}))),
    Forged("our audience in a list in a list", lambda: by_us(claims(aud=[[AUDIENCE]]))),
    Forged("every audience", lambda: token(aud="*")),
    Forged("no audience in a list", lambda: token(aud=[])),
]


async def test_no_forged_token_gets_in(serve: Serve, redis_url: str, issuer: Issuer) -> None:
    issuer.further = [
        {"kty": "oct", "kid": "oct", "k": b64(b"published")},
        jwk_of(FOR_ENCRYPTION, "enc") | {"use": "enc"},
        jwk_of(WEAK, "weak"),
        ec_jwk(BITCOIN, "secp256k1", "bitcoin"),
        ec_jwk(P384, "P-384", "p384"),
    ]
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    without = await api.get(STAT)
    assert without.status == 401
    answers = {
        forged.how: await api.get(STAT, headers={"Authorization": f"Bearer {forged.make()}"}) for forged in FORGED
    }
    assert len(answers) == len(FORGED) >= 60
    result = {
        how: (answer.status, answer.json, answer.headers.get("WWW-Authenticate")) for how, answer in answers.items()
    }
    expected = without.status, without.json, without.headers.get("WWW-Authenticate")
    assert {how: answer for how, answer in result.items() if answer != expected} == {}
    # Those with an unknown kid caused at most one new request for the keys.
    assert issuer.key_fetches <= 2
    assert (await api.get(STAT, token())).status == 200


def jwk_of(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    size = key.key_size // 8
    return {"kty": "RSA", "kid": kid, "n": b64(numbers.n.to_bytes(size, "big")), "e": b64(b"\x01\x00\x01")}


def ec_jwk(key: ec.EllipticCurvePrivateKey, curve: str, kid: str) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    x, y = (b64(number.to_bytes(size, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": curve, "kid": kid, "x": x, "y": y}


def test_a_key_that_names_its_algorithm_is_used_with_no_other() -> None:
    published = jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True)
    free, bound = signing_key(published), signing_key(published | {"alg": "RS256"})
    assert free is not None
    assert {"RS256", "RS512", "PS256"} < {*free.algorithms}
    assert bound is not None
    assert bound.algorithms == ("RS256",)
    assert signing_key(published | {"alg": "HS256"}) is None
