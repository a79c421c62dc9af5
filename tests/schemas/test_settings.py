"""Settings report all their faults at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic_settings import BaseSettings

from aggregator.settings import WorkerSettings
from api.dialects import auth0, linotp, own
from api.dialects.own import exports
from api.ingest import senders
from api.settings import token_file
from api.settings.settings import ApiSettings
from schemas import settings_errors
from schemas.settings import SettingsError, effective, read

KEY = "sixteen characters"
SECRETS = (
    "kafka_sasl_password",
    "kafka_oauth_client_secret",
    "kafka_ssl_key_password",
    "redis_sentinel_password",
    "redis_key_password",
)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        read(
            WorkerSettings,
            timezone="Mars/Olympus",
            key_prefix="{a}",
            users_by="realm,planet",
            topics="auth.logins=nothing",
            redis_url="http://localhost",
            retain_days="-1",
            user_hash_key="short",
        )
    result = "\n".join(refused.value.errors)
    for name in ("TIMEZONE", "KEY_PREFIX", "USERS_BY", "TOPICS", "REDIS_URL", "RETAIN_DAYS", "USER_HASH_KEY"):
        assert f"AUTHTALLY_{name}: " in result
    assert "short" not in result


def test_without_a_hash_key_there_is_no_worker() -> None:
    with pytest.raises(
        SettingsError, match=r"AUTHTALLY_USER_HASH_KEY: is not set; allowed: .*; make one with: openssl rand -hex 32"
    ):
        read(WorkerSettings)


@pytest.mark.parametrize(
    ("topics", "said"),
    [
        ("auth.logins", "is not topic=event"),
        ("a=login,a=token", "bound twice"),
        ("no spaces=login", "not a Kafka topic name; allowed"),
        ("", "names no topic"),
        ("auth.dead-letter=login", "DEAD_LETTER_TOPIC"),
    ],
)
def test_topics_say_what_is_wrong_with_them(topics: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read(WorkerSettings, user_hash_key=KEY, topics=topics)


def test_sasl_needs_all_of_its_settings() -> None:
    with pytest.raises(SettingsError, match="AUTHTALLY_KAFKA_SASL_MECHANISM"):
        read(WorkerSettings, user_hash_key=KEY, kafka_security_protocol="SASL_SSL")


def test_the_environment_is_read_as_people_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHTALLY_USER_HASH_KEY", KEY)
    monkeypatch.setenv("AUTHTALLY_USERS_BY", "realm, client")
    monkeypatch.setenv("AUTHTALLY_TOPICS", "a=login, b=token")
    monkeypatch.setenv("AUTHTALLY_RETAIN_DAYS", "forever")
    settings = read(WorkerSettings)
    assert (settings.users_by, settings.topics, settings.retain_days) == (
        ("realm", "client"),
        {"a": "login", "b": "token"},
        "forever",
    )


def test_what_is_shown_hides_secrets() -> None:
    shown = effective(
        read(
            WorkerSettings,
            user_hash_key=KEY,
            redis_url="redis://me:hidden@host:1/0",
            kafka_security_protocol="SASL_PLAINTEXT",
            kafka_sasl_mechanism="PLAIN",
            kafka_sasl_username="me",
            **dict.fromkeys(SECRETS, "hidden"),
        )
    )
    assert shown["AUTHTALLY_REDIS_URL"] == "redis://me:********@host:1/0"
    assert "hidden" not in str(shown)
    assert KEY not in str(shown)


FAULTS = [
    # setting, value, the rest of the line
    ("retain_days", "x", "'x' is not allowed; allowed: a whole number of at least 0, or forever; example: {}=400"),
    (
        "retain_months",
        "0",
        "'0' is not allowed; allowed: a whole number of at least 1, or forever; example: {}=forever",
    ),
    ("exact_up_to", "many", "'many' is not allowed; allowed: a whole number from 0 to 8192; example: {}=4096"),
    ("kafka_idempotence", "nope", "'nope' is not allowed; allowed: true, false; example: {}=true"),
    ("stuck_after_s", "0", "'0' is not allowed; allowed: a number above 0; example: {}=120.0"),
    ("dead_letter_topic", "", "'' is not allowed; allowed: text, not empty; example: {}=auth.dead-letter"),
    (
        "users_by",
        "realm,clinet",
        "'clinet' is not allowed; allowed: realm, client, node; several separated by commas; example: {}=realm; "
        "did you mean client?",
    ),
    (
        "log_level",
        "inf",
        "'inf' is not allowed; allowed: debug, info, warning, error; example: {}=info; did you mean info?",
    ),
    (
        "timezone",
        "Europe/Berln",
        "'Europe/Berln' is not a time zone of the IANA database; did you mean Europe/Berlin?; example: "
        "{}=Europe/Berlin",
    ),
    ("otlp_endpoint", "here", "'here' must be an http:// or https:// URL; example: {}=http://127.0.0.1:4318"),
    (
        "redis_url",
        "http://:hidden@host",
        "must be a redis://, rediss:// or unix:// URL; example: {}=redis://127.0.0.1:6379/0",
    ),
    ("user_hash_key", "hidden", "must have at least 16 characters; make one with: openssl rand -hex 32"),
]


@pytest.mark.parametrize(("name", "value", "rest"), FAULTS, ids=[case[0] for case in FAULTS])
def test_a_fault_names_setting_value_allowed_values_and_an_example(name: str, value: str, rest: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(WorkerSettings, **{"user_hash_key": KEY, name: value})
    setting = f"AUTHTALLY_{name.upper()}"
    assert refused.value.errors == [f"{setting}: {rest.format(setting)}"]
    assert "hidden" not in str(refused.value)


PASTED: Final = (
    ("kafka_bootstrap_servers", "me:canary@127.0.0.1:9092", "a user and a password"),
    ("kafka_bootstrap_servers", "127.0.0.1:9092,sasl_ssl://me:canary@127.0.0.1:9093", "in the second address"),
    ("cors_origins", ("https://me:canary@app.example",), "in an origin"),
    ("dashboard_connect_origins", ("https://me:canary@app.example",), "in an origin"),
)


@pytest.mark.parametrize(("name", "value", "why"), PASTED, ids=[why for _, _, why in PASTED])
def test_a_password_in_a_setting_without_one_is_not_repeated(name: str, value: Any, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(ApiSettings, auth=("none",), **{name: value})
    assert f"AUTHTALLY_{name.upper()}" in str(refused.value), why
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("settings", [WorkerSettings, ApiSettings])
def test_every_setting_has_words_for_its_allowed_values(settings: type[BaseSettings]) -> None:
    for name, field in settings.model_fields.items():
        assert settings_errors.allowed(field), name
        assert "pydantic" not in settings_errors.allowed(field), name


@pytest.mark.parametrize(
    ("protocol", "settings", "named"),
    [
        ("PLAINTEXT", {"kafka_sasl_username": "u"}, ["KAFKA_SASL_USERNAME"]),
        (
            "SSL",
            {"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_password": "p"},
            ["KAFKA_SASL_MECHANISM", "KAFKA_SASL_PASSWORD"],
        ),
        ("PLAINTEXT", {"kafka_oauth_client_id": "c"}, ["KAFKA_OAUTH_CLIENT_ID"]),
    ],
)
def test_a_sign_in_without_a_sasl_protocol_is_a_fault(
    protocol: str, settings: dict[str, str], named: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        read(WorkerSettings, user_hash_key=KEY, kafka_security_protocol=protocol, **settings)
    names = ", ".join(f"AUTHTALLY_{name}" for name in named)
    assert f"AUTHTALLY_KAFKA_SECURITY_PROTOCOL={protocol} does not sign in, so {names} would have no effect" in str(
        refused.value
    )


SCOPES = [
    (["stats:red"], [], "'stats:red', which no route requires", "did you mean stats:read?"),
    (["stats:read", "jans-stat"], [], "'jans-stat'", "did you mean jans_stat?"),
    (["statistics"], ["own_stat"], "'statistics'", "own_stat"),
]


@pytest.mark.parametrize(("scopes", "stat_scope", "value", "hint"), SCOPES)
def test_a_misspelt_scope_in_the_token_file_is_a_fault(
    scopes: list[str], stat_scope: list[str], value: str, hint: str, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps([{"sha256": "0" * 64, "subject": "x", "scopes": scopes}]))
    more = {"stat_scope": stat_scope[0]} if stat_scope else {}
    with pytest.raises(SettingsError) as refused:
        read(ApiSettings, auth="static", auth_tokens_file=str(file), **more)
    (line,) = refused.value.errors
    assert line.startswith("AUTHTALLY_AUTH_TOKENS_FILE: ")
    assert value in line
    assert hint in line


def test_the_scopes_of_the_token_file_are_those_of_the_routes() -> None:
    assert set(token_file.SCOPES) == {own.READ, own.METRICS, exports.SCOPE, auth0.SCOPE, linotp.SCOPE, senders.SCOPE}


BAD_FILES = [
    (
        "auth_tokens_file",
        b'[{"sha256": "x", "subject": "s", "scopes": []}]',
        "`[0].sha256` has a value that is not allowed",
    ),
    ("auth_tokens_file", b'[{"subject": "s", "scopes": []}]', "`sha256` is missing in `[0]`"),
    ("quotas_file", b'{"tennant": 1}', "`tennant` is not a known field"),
    (
        "quotas_file",
        b'{"tenant": 0}',
        "`tenant` has a value that is not allowed; allowed: a whole number of at least 1",
    ),
]


@pytest.mark.parametrize(("setting", "content", "fault"), BAD_FILES)
def test_a_faulty_file_is_named_with_the_field_and_an_example(
    setting: str, content: bytes, fault: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.json"
    file.write_bytes(content)
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([{"sha256": "0" * 64, "subject": "x", "scopes": []}]))
    values = {"auth_tokens_file": str(tokens), setting: str(file)}
    with pytest.raises(SettingsError) as refused:
        read(ApiSettings, auth="static", **values)
    (line,) = refused.value.errors
    assert line.startswith(f"AUTHTALLY_{setting.upper()}: {file} is not ")
    assert fault in line
    assert "; example: " in line
