"""Settings report all their faults at once."""

from __future__ import annotations

import pytest

from aggregator.settings import WorkerSettings
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
    with pytest.raises(SettingsError, match="AUTHTALLY_USER_HASH_KEY: is not set"):
        read(WorkerSettings)


@pytest.mark.parametrize(
    ("topics", "said"),
    [
        ("auth.logins", "is not topic=event"),
        ("a=login,a=token", "bound twice"),
        ("no spaces=login", "not a valid Kafka topic name"),
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
            **dict.fromkeys(SECRETS, "hidden"),
        )
    )
    assert shown["AUTHTALLY_REDIS_URL"] == "redis://me:********@host:1/0"
    assert "hidden" not in str(shown)
    assert KEY not in str(shown)
