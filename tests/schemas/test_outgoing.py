"""An event goes to the topic bound to it, and equal ids meet in one partition."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.events import AccountEvent, Event, Login, OtpTokenState, RecordTime, TokenIssued, decode
from schemas.outgoing import UnboundError, outgoing, topics_by_event

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOW_MS = int(NOON.timestamp() * 1000)
TOPICS = topics_by_event({"keycloak.events": "login", "auth.logins": "login", "auth.tokens": "token"})

EVENTS = [
    pytest.param(Login(NOON, "ada", realm="acme", id="keycloak:1"), "login", "keycloak.events", id="first one bound"),
    pytest.param(TokenIssued(NOON, "password", ("access_token",)), "token", "auth.tokens", id="without an id"),
]


@pytest.mark.parametrize(("event", "name", "topic"), EVENTS)
def test_what_is_sent_decodes_to_the_same_event(event: Event, name: str, topic: str) -> None:
    sent = outgoing(event, TOPICS)
    assert sent.topic == topic
    assert decode(name, sent.value, RecordTime(NOW_MS)) == event


def test_equal_ids_have_equal_keys_whatever_else_differs() -> None:
    once = outgoing(Login(NOON, "ada", id="keycloak:1"), TOPICS).key
    assert once is not None
    assert outgoing(Login(NOON, "bob", id="keycloak:1"), TOPICS).key == once
    assert outgoing(TokenIssued(NOON, "password", ("access_token",), id="keycloak:1"), TOPICS).key == once
    assert outgoing(Login(NOON, "ada", id="auth0:1"), TOPICS).key != once


def test_an_event_without_an_id_has_no_key() -> None:
    assert outgoing(Login(NOON, "ada"), TOPICS).key is None


def test_the_state_of_a_token_is_keyed_by_its_serial() -> None:
    state = OtpTokenState(NOON, "OATH0001", "token_init", ("acme",), active=True, assigned=False, id="linotp:1")
    assert outgoing(state, topics_by_event({"auth.otp-tokens": "otp"})).key == b"OATH0001"


def test_an_event_that_no_topic_carries_names_the_setting() -> None:
    with pytest.raises(UnboundError, match="AUTHTALLY_TOPICS binds no topic to account"):
        outgoing(AccountEvent(NOON, "signup"), TOPICS)
