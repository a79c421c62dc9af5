"""URLs are shown without their secrets, wherever those are in them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from aggregator.settings import WorkerSettings
from api.settings.settings import ApiSettings
from schemas.connections.urls import is_in_the_clear, masked_url, masked_urls
from schemas.settings import SettingsError, effective, read

KEY: Final = "sixteen characters"
SECRET: Final = "hush9f"

SHOWN: Final = [
    ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0", "no secret"),
    ("https://issuer.example/jwks", "https://issuer.example/jwks", "no secret"),
    ("statistics", "statistics", "no URL"),
    ("", "", "nothing"),
    ("redis://:hush9f@host/0", "redis://:********@host/0", "a password"),
    ("redis://me:hush9f@host:1/0", "redis://me:********@host:1/0", "a user, which is shown"),
    ("redis://me:hush9f@a:1,b:2/0", "redis://me:********@a:1,b:2/0", "a list of Sentinels"),
    ("https://hush9f@host/x", "https://********@host/x", "a user alone, which can be a key"),
    ("https://hush9f:@host/x", "https://********@host/x", "an empty password: the user is the key"),
    ("https://me:a%2F%40hush9f@host/x", "https://me:********@host/x", "an escaped password"),
    ("redis://:a@hush9f@host/0", "redis://:********@host/0", "an at in a password"),
    ("redis://:a/hush9f@host/0", "redis://:********@host/0", "a slash in a password"),
    ("redis://:a?hush9f@host/0", "redis://:********@host/0", "a question mark in a password"),
    ("redis://:a#hush9f@host/0", "redis://:********@host/0", "a number sign in a password"),
    ("redis://:a:hush9f@host/0", "redis://:********@host/0", "a colon in a password"),
    ("redis://host/0?password=hush9f&db=1", "redis://host/0?password=********&db=********", "redis-py's password"),
    ("unix:///run/redis.sock?password=hush9f", "unix:///run/redis.sock?password=********", "a socket's password"),
    ("https://host/jwks?api_key=hush9f", "https://host/jwks?api_key=********", "a key in the query"),
    ("https://host/jwks?hush9f", "https://host/jwks?********", "a key without a name"),
    ("https://host/jwks?a=1;token=hush9f", "https://host/jwks?a=********&token=********", "the other separator"),
    ("https://host/x#hush9f", "https://host/x#********", "a fragment"),
    ("https://me:hush9f@host/x?k=hush9f#hush9f", "https://me:********@host/x?k=********#********", "everywhere"),
    ("https://host/x?mail=me@hush9f", "https://********@hush9f", "an at in the query: more is hidden than need be"),
]


@pytest.mark.parametrize(("url", "shown", "why"), SHOWN)
def test_secrets_are_masked(url: str, shown: str, why: str) -> None:
    assert masked_url(url) == shown, why
    assert masked_url(shown).count("********") >= shown.count("********"), "masking twice shows nothing new"


def test_texts_of_libraries_are_masked() -> None:
    url = f"http://me:{SECRET}@host/?k={SECRET}"
    text = masked_urls(f"cannot connect to {url}: refused, {url}", url, "")
    assert SECRET not in text
    assert text.endswith("refused, http://me:********@host/?k=********")


URL_SETTINGS: Final = {
    "auth_jwks_url": "https",
    "auth_introspection_url": "https",
    "auth_issuer": "https",
    "ingest_fusionauth_jwks_url": "https",
    "linotp_url": "https",
    "kafka_oauth_token_url": "https",
    "otlp_endpoint": "https",
    "redis_url": "redis",
    "cache_redis_url": "redis",
}


def test_every_url_setting_is_masked_when_it_is_shown() -> None:
    urls = {name for name in ApiSettings.model_fields if name.endswith(("_url", "_endpoint"))} | {"auth_issuer"}
    # New ones belong into this test.
    assert urls == URL_SETTINGS.keys()
    given = {name: f"{scheme}://me:{SECRET}@127.0.0.1/0?key={SECRET}" for name, scheme in URL_SETTINGS.items()}
    given["otlp_endpoint"] = f"https://127.0.0.1/{''}?key={SECRET}"
    # redis-py knows the parameter.
    given |= {name: given[name].replace("key=", "password=") for name in ("redis_url", "cache_redis_url")}
    shown = effective(read(ApiSettings, auth="none", **given))
    assert SECRET not in str(shown)
    for name in URL_SETTINGS:
        assert "********" in shown[f"AUTHTALLY_{name.upper()}"], name


@pytest.mark.parametrize("setting", sorted(URL_SETTINGS.keys() - {"auth_issuer", "otlp_endpoint"}))
@pytest.mark.parametrize("password", ["a/hush9f", "hush9f/a", "a?hush9f", "hush9f[", "hush9f\u2100x", "1:hush9f/2"])
def test_an_error_shows_no_part_of_a_malformed_url(setting: str, password: str) -> None:
    scheme = URL_SETTINGS[setting]
    for url in (f"{scheme}://:{password}@host/0", f"{scheme}://me:{password}@[::1/0", f"ftp://me:{password}@host"):
        try:
            shown = str(effective(read(ApiSettings, auth="none", **{setting: url})))
        except SettingsError as error:
            shown = str(error)
            assert f"AUTHTALLY_{setting.upper()}" in shown or "AUTHTALLY_REDIS_URL" in shown or "is not a URL" in shown
        assert "hush9f" not in shown


def test_the_list_of_sentinels_is_not_repeated_in_an_error() -> None:
    with pytest.raises(SettingsError, match="not a list of host:port") as refused:
        read(WorkerSettings, user_hash_key=KEY, redis_sentinel="m", redis_url=f"redis://:{SECRET}/x@a:1,b:2/0")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("http://issuer.example/jwks", True),
        ("http://192.0.2.7/jwks", True),
        ("https://issuer.example/jwks", False),
        ("http://127.0.0.1:8080/jwks", False),
        ("http://localhost/jwks", False),
        ("http://[::1]/jwks", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_requests_in_the_clear_are_known(url: str, clear: bool) -> None:
    assert is_in_the_clear(url) is clear


@pytest.mark.parametrize("key", ["a" * 64, "ab" * 16, "abcd" * 8, "0123" * 8, "\u00e4" * 32])
def test_a_hash_key_of_few_characters_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match="AUTHTALLY_USER_HASH_KEY: must have at least 5 different characters"):
        read(WorkerSettings, user_hash_key=key)


def test_a_random_hash_key_is_taken(tmp_path: Path) -> None:
    import secrets

    for _ in range(100):
        assert read(WorkerSettings, user_hash_key=secrets.token_hex(16))
