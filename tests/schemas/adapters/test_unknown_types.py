"""Event types that an adapter neither counts nor ignores by name."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.adapters import fusionauth, janssen_audit
from schemas.adapters.auth0_logs import CODES, IGNORED
from schemas.adapters.elements import MAX_TYPE_CHARS, count_unknown
from schemas.ledger.fields import MAX_UNKNOWN_TYPES
from schemas.ledger.scopes import OTHER
from tests.schemas.adapters.cases import elements

KNOWN: dict[str, dict[str, Any]] = {
    "keycloak": {"type": "LOGOUT"},
    "auth0-logs": {"log_id": "1", "data": {"type": "sapi"}},
    "fusionauth": {"event": {"type": "user.update"}},
    "janssen-audit": {"action": "CLIENT_READ"},
    "janssen-audit-sessions": {"action": "USER_INFO"},
}
UNKNOWN: dict[str, Any] = {
    "keycloak": lambda name: {"type": name},
    "auth0-logs": lambda name: {"log_id": "1", "data": {"type": name}},
    "fusionauth": lambda name: {"event": {"type": name}},
    "janssen-audit": lambda name: {"action": name},
    "janssen-audit-sessions": lambda name: {"action": name},
    "cloudevents": lambda name: {"specversion": "1.0", "id": "1", "source": "/", "type": name},
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_type_that_is_ignored_by_name_is_not_unknown(name: str) -> None:
    (one,) = elements(name, KNOWN[name])
    assert (one.events, one.bad, one.unknown) == ((), None, None)


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize(
    ("type_", "named", "why"),
    [
        ("new.type", "new.type", "as it is"),
        ("ü/ %2F", "ü/ %2F", "with any printable characters"),
        ("x" * MAX_TYPE_CHARS, "x" * MAX_TYPE_CHARS, "as long as a name may be"),
        ("x" * (MAX_TYPE_CHARS + 1), OTHER, "longer"),
        ("a\x1b[2J", OTHER, "characters that a terminal obeys"),
        ("a\u202eb", OTHER, "characters that turn the text around"),
    ],
)
def test_an_unknown_type_is_named_if_it_can_be_shown(name: str, type_: str, named: str, why: str) -> None:
    (one,) = elements(name, UNKNOWN[name](type_))
    assert (one.events, one.bad, one.unknown) == ((), None, named), why


def test_the_tables_do_not_overlap() -> None:
    assert not IGNORED & CODES.keys()
    assert not fusionauth.IGNORED & {*fusionauth.KINDS, fusionauth.LOGIN, fusionauth.LOGIN_FAILED, fusionauth.REFRESH}
    assert not janssen_audit.IGNORED & {*janssen_audit.BY_SESSION, *janssen_audit.BY_AUTHORIZATION}


def test_an_answer_names_a_limited_number_of_types() -> None:
    counts: dict[str, int] = {}
    for number in (*range(MAX_UNKNOWN_TYPES + 5), 0):
        count_unknown(counts, f"type {number}")
    assert (len(counts), counts[OTHER], counts["type 0"]) == (MAX_UNKNOWN_TYPES + 1, 5, 2)
