"""A signed report says what the ledger held and where, and nothing of it can be changed unseen."""

from __future__ import annotations

import base64
import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.cli.main import main
from deploy.cli.report.signing import SignatureError, canonical, private_key, signed_with, verified
from deploy.demo.servers import Valkey
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.api.ledger_writer import PREFIX, open_ledger

MONTH = "2024-06"
ACME = Scope("realm", ("acme/東京",))
SHARD = Shard("auth.logins", 0)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """A ledger of June 2024; its URL."""
    with Valkey() as server:
        ledger = open_ledger(server.url)
        ledger.few_users(MONTH, range(7))
        ledger.few_users(MONTH, range(4), scope=ACME)
        ledger.tokens(MONTH, {"password": {"access_token": 1500}, "client_credentials": {"access_token": 40}})
        shard_keys = ShardKeys(PREFIX, SHARD)
        with redis.Redis.from_url(server.url) as client:
            client.sadd(shard_keys.labels, fields.label("realm", *ACME.names))
            for field, count in ((fields.LOGIN, 12), (fields.failed("locked"), 3), (fields.account("signup"), 2)):
                client.hset(shard_keys.counts(MONTH, EVERYTHING), field, count)
            client.hset(shard_keys.counts(MONTH, ACME), fields.LOGIN, 5)
            client.hset(
                shard_keys.meta, mapping={"topic_id": "id-1", "timezone": "UTC", "user_hash_key": "0011223344556677"}
            )
            client.set(shard_keys.position, 4711)
            client.hset(shard_keys.progress, fields.LOST, 2)
            client.hset(keys.imported(PREFIX), mapping={"2024-04/active": 99, "2024-04/source": "the old system"})
        yield server.url


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Keys as the README has them made."""
    folder = tmp_path_factory.mktemp("keys")
    private, public = folder / "report.key", folder / "report.pub"
    subprocess.run(("openssl", "genpkey", "-algorithm", "ed25519", "-out", private), check=True)
    subprocess.run(("openssl", "pkey", "-in", private, "-pubout", "-out", public), check=True)
    return private, public


def run(url: str, *arguments: object) -> Result:
    environment = {"AUTHTALLY_REDIS_URL": url, "AUTHTALLY_KEY_PREFIX": PREFIX}
    return CliRunner().invoke(main, ["report", *map(str, arguments)], env=environment)


@pytest.fixture(scope="module")
def envelope(store: str, pair: tuple[Path, Path]) -> dict[str, Any]:
    done = run(store, "--sign", pair[0], "--month", MONTH)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_contains_figures_positions_and_settings(envelope: dict[str, Any]) -> None:
    signed = envelope["signed"]
    assert signed["active_users"] == {"value": 7, "exact": True, "standard_error": "0.000000"}
    assert signed["logins"] == {
        "succeeded": 12,
        "failed": 3,
        "failed_by_reason": [{"reason": "locked", "count": 3}],
    }
    assert signed["tokens"] == [
        {"grant_type": "client_credentials", "token_type": "access_token", "count": 40},
        {"grant_type": "password", "token_type": "access_token", "count": 1500},
    ]
    assert [(row["realm"], row["active_users"]["value"], row["logins"]["succeeded"]) for row in signed["realms"]] == [
        ("acme/東京", 4, 5)
    ]
    assert signed["positions"] == [
        {
            "topic": "auth.logins",
            "partition": 0,
            "topic_id": "id-1",
            "offset": 4711,
            "offset_after": 4711,
            "lost": 2,
            "settings": {"timezone": "UTC"},
        }
    ]
    assert (signed["month"], signed["to_date"], signed["imported_from"]) == (MONTH, False, None)


def test_it_is_verified_by_the_public_key(envelope: dict[str, Any], pair: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(envelope))
    done = CliRunner().invoke(main, ["report", "verify", str(path), "--key", str(pair[1])])
    assert done.exit_code == 0, done.output
    rows = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "2024-06 7 exact 12 3 1,540" in rows
    assert "auth.logins 0 id-1 4711 2" in rows


def test_openssl_verifies_it_too(envelope: dict[str, Any], pair: tuple[Path, Path], tmp_path: Path) -> None:
    # Canonical by Python's own JSON, not by ours.
    text = json.dumps(envelope["signed"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (tmp_path / "signed").write_bytes(text.encode())
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signature"]["value"]))
    done = subprocess.run(
        (
            *("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", pair[1]),
            *("-rawin", "-in", "signed", "-sigfile", "signature"),
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value is that holds no others."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for name, each in inner:
        found = True
        yield from leaves(each, (*path, name))
    if not found:
        yield path


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def changed(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return ("A" if value[:1] != "A" else "B") + value[1:]
    return [*value, 1] if isinstance(value, list) else {**value, "more": 1}


def test_no_value_can_be_changed(envelope: dict[str, Any], pair: tuple[Path, Path]) -> None:
    key = key_of(pair)
    public = key.public_key()
    assert verified(json.dumps(envelope).encode(), public) == envelope["signed"]
    found = list(leaves(envelope))
    assert len(found) > 30
    for path in found:
        for change in ("changed", "gone", "renamed"):
            forged = copy.deepcopy(envelope)
            parent, last = at(forged, path[:-1]), path[-1]
            if change == "changed":
                parent[last] = changed(parent[last])
            elif change == "gone":
                del parent[last]
            elif isinstance(parent, dict):
                parent[f"{last}_"] = parent.pop(last)
            else:
                continue
            with pytest.raises(SignatureError):
                verified(json.dumps(forged).encode(), public)


def test_nothing_can_be_added(envelope: dict[str, Any], pair: tuple[Path, Path]) -> None:
    public = key_of(pair).public_key()
    for path in ((), ("signed",), ("signature",), ("signed", "active_users"), ("signed", "positions", 0)):
        forged = copy.deepcopy(envelope)
        at(forged, path)["note"] = "all is well"
        with pytest.raises(SignatureError):
            verified(json.dumps(forged).encode(), public)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not JSON"),
        ("[]", "is not a signed report"),
        ("[" * 100_000, "is not JSON"),
        ('{"signed": 1, "signature": 2}', "is not a signed report"),
        ('{"signed": {}, "signed": {}, "signature": {}}', "has the same name twice"),
        ('{"signed": {"value": 7.5}, "signature": {}}', "not an integer"),
        ('{"signed": {"value": NaN}, "signature": {}}', "not an integer"),
        ('{"signed": {}, "signature": {"algorithm": "none", "key": "", "value": ""}}', "is not signed with Ed25519"),
    ],
)
def test_what_is_no_signed_report_is_refused(pair: tuple[Path, Path], text: str, why: str) -> None:
    with pytest.raises(SignatureError, match=why):
        verified(text.encode(), key_of(pair).public_key())


def test_another_key_and_another_kind_of_text_are_refused(envelope: dict[str, Any], pair: tuple[Path, Path]) -> None:
    other = Ed25519PrivateKey.generate()
    with pytest.raises(SignatureError, match="is signed with another key"):
        verified(json.dumps(envelope).encode(), other.public_key())
    forged = json.dumps({**envelope, "signature": signed_with(other, envelope["signed"])["signature"]}).encode()
    with pytest.raises(SignatureError, match="is signed with another key"):
        verified(forged, key_of(pair).public_key())

    key = key_of(pair)
    foreign = {"type": "an invoice", "version": 1}
    signature = {**envelope["signature"], "value": base64.b64encode(key.sign(canonical(foreign))).decode()}
    with pytest.raises(SignatureError, match="is signed, but is not an authtally month report"):
        verified(json.dumps({"signed": foreign, "signature": signature}).encode(), key.public_key())


def test_an_imported_month_says_from_where(store: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "april.json"
    assert run(store, "--sign", pair[0], "--month", "2024-04", "--output", path).exit_code == 0
    done = CliRunner().invoke(main, ["report", "verify", str(path), "--key", str(pair[1]), "--json"])
    signed = json.loads(done.stdout)
    assert (signed["active_users"]["value"], signed["imported_from"]) == (99, "the old system")


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("--sign", "none.key"), 1, "none.key: No such file"),
        (("--sign", "report.pub", "--month", MONTH), 1, "is not a private key in PEM"),
        (("--sign", "rsa.key", "--month", MONTH), 1, "is not an Ed25519 key"),
        (("--sign", "locked.key", "--month", MONTH), 1, "is encrypted"),
        (("--sign", "report.key", "--month", "June"), 2, "not a month in format YYYY-MM"),
        (("--sign", "report.key", "--month", "2023-01"), 1, "2023-01: the ledger has no figures of this month"),
        (("logins", "--sign", "report.key"), 2, "takes --month, --region, --incomplete and --output only"),
        (("--sign", "report.key", "--realm", "acme"), 2, "takes --month, --region, --incomplete and --output only"),
        (("verify", "report.json"), 2, "report verify takes FILE and --key KEYFILE"),
        (("verify", "none.json", "--key", "report.pub"), 1, "none.json: No such file"),
        (("verify", "report.pub", "--key", "report.pub"), 1, "report.pub: is not JSON"),
        (("verify", "report.pub", "--key", "report.key"), 1, "report.key: is not a public key in PEM"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    store: str,
    pair: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    why: str,
) -> None:
    folder = pair[0].parent
    monkeypatch.chdir(folder)
    if not (folder / "rsa.key").exists():
        for name, more in (("rsa.key", ("RSA",)), ("locked.key", ("ed25519", "-aes256", "-pass", "pass:secret"))):
            subprocess.run(("openssl", "genpkey", "-algorithm", *more, "-out", name), check=True, capture_output=True)
    refused = run(store, *arguments)
    assert (refused.exit_code, why in refused.output) == (status, True), refused.output


def key_of(pair: tuple[Path, Path]) -> Ed25519PrivateKey:
    return private_key(pair[0])
