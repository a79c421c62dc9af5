"""Certificates in settings: an error in a file names its setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aggregator.settings import WorkerSettings
from api.settings.settings import ApiSettings
from schemas.settings import SettingsError, read
from tests.certificates import Authority

KEY = "sixteen characters"
LOCK = "opens the key"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def refusal(kind: Any = WorkerSettings, **given: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        read(kind, **{"user_hash_key": KEY} | given)
    (error,) = refused.value.errors
    assert LOCK not in error
    return error


def kafka(authority: Authority, **files: Any) -> dict[str, str]:
    names = {f"kafka_ssl_{name}": str(path) for name, path in files.items()}
    return {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": str(authority.file)} | names


def test_errors_name_which_of_kafkas_files_is_wrong(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.sign("one"), authority.sign("other")
    locked = authority.sign("locked", password=LOCK)
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no certificate")
    good = kafka(authority, certfile=locked.certificate, keyfile=locked.key, key_password=LOCK)
    assert read(WorkerSettings, user_hash_key=KEY, **good).kafka_tls() is not None
    for given, setting, said in (
        (kafka(authority, cafile="/nowhere"), "CAFILE", "No such file"),
        (kafka(authority, cafile=nonsense), "CAFILE", "no certificates"),
        (kafka(authority, certfile="/nowhere"), "CERTFILE", "No such file"),
        (kafka(authority, certfile=one.certificate, keyfile="/nowhere"), "KEYFILE", "No such file"),
        (kafka(authority, certfile=nonsense, keyfile=one.key), "CERTFILE", "must contain a certificate"),
        (kafka(authority, certfile=one.certificate), "CERTFILE", "and its key"),
        (kafka(authority, keyfile=one.key), "KEYFILE", "needs AUTHTALLY_KAFKA_SSL_CERTFILE"),
        (kafka(authority, certfile=one.certificate, keyfile=other.key), "KEYFILE", "is not the key"),
        (kafka(authority, certfile=locked.certificate, keyfile=locked.key), "KEY_PASSWORD", "is not set"),
        (good | {"kafka_ssl_key_password": "wrong"}, "KEY_PASSWORD", "does not decrypt"),
        (kafka(authority) | {"kafka_security_protocol": "PLAINTEXT"}, "CAFILE", "not encrypted"),
    ):
        text = refusal(**given)
        assert f"AUTHTALLY_KAFKA_SSL_{setting}" in text, given
        assert said in text, given


def test_one_file_may_hold_certificate_and_key(authority: Authority) -> None:
    settings = read(WorkerSettings, user_hash_key=KEY, **kafka(authority, certfile=authority.sign("one").both))
    assert settings.kafka_client()["ssl.key.location"] == settings.kafka_ssl_certfile


def test_redis_files_are_for_encrypted_urls(authority: Authority) -> None:
    encrypted, clear, file = "rediss://host:1", "redis://host:1", str(authority.file)
    assert "AUTHTALLY_REDIS_CA_FILE" in refusal(redis_url=clear, redis_ca_file=file)
    assert "AUTHTALLY_REDIS_CA_FILE=/nowhere" in refusal(redis_url=encrypted, redis_ca_file="/nowhere")
    assert "AUTHTALLY_REDIS_CERT_FILE" in refusal(redis_url=encrypted, redis_key_file=file)
    assert read(WorkerSettings, user_hash_key=KEY, redis_url=encrypted, redis_ca_file=file).redis_tls()
    # One of the two is enough.
    assert read(ApiSettings, auth="none", redis_url=clear, cache_redis_url=encrypted, redis_ca_file=file)


def test_an_api_that_takes_no_events_needs_no_file_of_kafkas() -> None:
    given = {"auth": "none", "kafka_security_protocol": "SSL", "kafka_ssl_cafile": "/nowhere"}
    assert read(ApiSettings, **given)
    assert "AUTHTALLY_KAFKA_SSL_CAFILE=/nowhere" in refusal(ApiSettings, ingest=True, **given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, ["SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD"]),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "SCRAM-SHA-512"},
            ["SASL_USERNAME", "SASL_PASSWORD"],
        ),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "OAUTHBEARER"},
            ["OAUTH_TOKEN_URL", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"],
        ),
    ],
)
def test_what_a_mechanism_needs_is_named(given: dict[str, str], named: list[str]) -> None:
    text = refusal(**given)
    assert [f"AUTHTALLY_KAFKA_{name}" in text for name in named] == [True] * len(named)


def test_a_token_endpoint_is_a_url() -> None:
    assert "must be an http:// or https:// URL" in refusal(kafka_oauth_token_url="issuer.example/token")


def test_cluster_and_sentinel_exclude_each_other() -> None:
    assert "AUTHTALLY_REDIS_SENTINEL" in refusal(redis_cluster="on", redis_sentinel="ledger")
    assert "AUTHTALLY_REDIS_URL" in refusal(redis_url="redis://one:x,two", redis_sentinel="ledger")
