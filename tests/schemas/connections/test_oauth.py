"""Tokens by client credentials: kept, renewed in time, and held on to while the endpoint is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.connections.kafka_settings import KafkaConnectionSettings
from schemas.connections.oauth import TokenCache, TokenError, fetch
from tests.integration.token_endpoint import TokenEndpoint


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with TokenEndpoint(lifetime_s=100) as endpoint:
        yield endpoint


def settings(endpoint: TokenEndpoint, **given: Any) -> KafkaConnectionSettings:
    named: dict[str, Any] = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "OAUTHBEARER",
        "kafka_oauth_token_url": endpoint.token_url,
        "kafka_oauth_client_id": endpoint.client_id,
        "kafka_oauth_client_secret": endpoint.client_secret,
    }
    return KafkaConnectionSettings(**named | given)


def test_a_token_is_asked_for_again_when_four_fifths_of_its_time_are_over(endpoint: TokenEndpoint) -> None:
    clock = Clock()
    tokens = TokenCache(settings(endpoint, kafka_oauth_scope="events"), clock)
    for clock.now, issued in ((0, 1), (79, 1), (80, 2), (159, 2), (161, 3)):
        assert tokens.get()
        assert len(endpoint.issued) == issued
    assert endpoint.issued[0] == {"grant_type": "client_credentials", "scope": "events"}


def test_a_token_is_used_to_its_end_while_the_endpoint_is_away_and_asked_for_once_a_second(
    endpoint: TokenEndpoint,
) -> None:
    clock = Clock()
    tokens = TokenCache(settings(endpoint), clock)
    held = tokens.get()
    endpoint.refuses_with = 503
    for clock.now in (80.0, 80.5, 81.0, 99.0):
        assert tokens.get() == held
        assert tokens.error is not None
    assert endpoint.asked == 4
    for clock.now in (100.0, 100.5):
        with pytest.raises(TokenError, match=r"AUTHTALLY_KAFKA_OAUTH_TOKEN_URL: answers 503"):
            tokens.get()
    assert endpoint.asked == 5
    endpoint.refuses_with, clock.now = None, 102.0
    assert tokens.get()
    assert tokens.error is None


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ((401, {"error": "invalid_client"}), "KAFKA_OAUTH_CLIENT_ID, AUTHTALLY_KAFKA_OAUTH_CLIENT_SECRET: refused"),
        ((400, {"error": "invalid_scope"}), "KAFKA_OAUTH_SCOPE: refused"),
        ((302, {}), "KAFKA_OAUTH_TOKEN_URL: answers 302"),
        ((500, "no object"), "KAFKA_OAUTH_TOKEN_URL: answers 500"),
        ((200, {}), "the answer contains no token"),
        ((200, ["access_token"]), "the answer contains no token"),
        ((200, {"access_token": "a", "expires_in": "soon"}), "the answer contains no token"),
        ((200, {"access_token": "ü"}), "the answer contains no token"),
        ((200, {"access_token": "a", "expires_in": float("nan")}), "the answer contains no token"),
        ((200, {"access_token": "a", "expires_in": 0}), "the answer contains no token"),
    ],
)
def test_an_answer_without_a_token_names_its_setting(endpoint: TokenEndpoint, answer: Any, named: str) -> None:
    endpoint.answers = answer
    with pytest.raises(TokenError) as failed:
        fetch(settings(endpoint))
    assert named in str(failed.value)
    assert endpoint.client_secret not in str(failed.value)


def test_a_token_that_does_not_say_for_how_long_is_asked(endpoint: TokenEndpoint) -> None:
    _, body = endpoint.answer(endpoint.login, {"grant_type": "client_credentials"})
    endpoint.answers = (200, {"access_token": body["access_token"]})
    assert 90 < fetch(settings(endpoint)).lifetime_s <= 100
    endpoint.answers = (200, {"access_token": "opaque"})
    assert fetch(settings(endpoint)).lifetime_s == 300


def test_an_absent_endpoint_is_named_by_its_url(endpoint: TokenEndpoint) -> None:
    began = time.monotonic()
    with pytest.raises(TokenError, match=r"AUTHTALLY_KAFKA_OAUTH_TOKEN_URL=http://127.0.0.1:1/: no answer"):
        fetch(settings(endpoint, kafka_oauth_token_url="http://127.0.0.1:1/"))
    assert time.monotonic() - began < 5
