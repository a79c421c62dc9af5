"""What is wrong with the ways in and their issuer."""

from __future__ import annotations

import pytest

from tests.deploy.cli.doctor.conftest import Patient


def test_anybody_let_in_from_outside_is_a_problem(patient: Patient) -> None:
    assert "everyone can read" in patient.examine(auth="none", api_host="0.0.0.0").text("access.ways", "problem")
    assert "this machine" in patient.examine(auth="none").text("access.ways", "warning")


@pytest.mark.parametrize(
    ("ahead_s", "verdict"), [(0, "ok"), (-30, "warning"), (600, "problem")], ids=["right", "half a minute", "ten"]
)
def test_the_issuers_clock_is_compared(patient: Patient, ahead_s: float, verdict: str) -> None:
    patient.issuer.ahead_s = ahead_s
    try:
        found = patient.examine("--service", "api")
    finally:
        patient.issuer.ahead_s = 0
    assert found.verdicts("access.clock") == {verdict}
    assert found.status == (1 if verdict == "problem" else 0)


@pytest.mark.parametrize(
    ("settings", "check", "words"),
    [
        ({"auth_jwks_url": "{url}/nowhere"}, "access.keys", "status 404"),
        ({"auth_jwks_url": "http://127.0.0.1:1/keys"}, "access.keys", "no answer"),
        ({"auth_client_secret": "another secret"}, "access.introspection", "status 401"),
        ({"auth_introspection_url": "http://127.0.0.1:1/"}, "access.introspection", "no answer"),
        ({"auth_issuer": "{url}/"}, "access.issuer", "calls itself"),
    ],
)
def test_an_issuer_that_would_not_do_is_a_problem(
    patient: Patient, settings: dict[str, str], check: str, words: str
) -> None:
    given = {name: value.format(url=patient.issuer.url) for name, value in settings.items()}
    assert words in patient.examine("--service", "api", **given).text(check, "problem")


def test_keys_that_verify_nothing_and_tokens_that_anybody_makes_are_problems(patient: Patient) -> None:
    good, patient.issuer.keys = patient.issuer.keys, [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]
    patient.issuer.active = True
    try:
        found = patient.examine("--service", "api")
    finally:
        patient.issuer.keys, patient.issuer.active = good, False
    assert "1 keys, but none for RS" in found.text("access.keys", "problem")
    assert "every token would be accepted" in found.text("access.introspection", "problem")
