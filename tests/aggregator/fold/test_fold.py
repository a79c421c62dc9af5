"""Labels, bad records and users: what one fold says, case by case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aggregator.fold.digest import Digest
from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, RangeDelta, ShardCache
from schemas.ledger import fields
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from schemas.user_ids import NORMALIZERS
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, record

LOGIN: dict[str, object] = {"time": "2026-11-20T10:00:00Z", "user_id": "alice"}


def rules(**given: Any) -> CountingRules:
    return CountingRules.of(ledgers.settings("redis://nowhere", **given))


def folded(
    *events: dict[str, object] | bytes, name: str = "login", known: ShardCache | None = None, **given: Any
) -> RangeDelta:
    records = [record(offset, event, 1_795_168_800_000) for offset, event in enumerate(events)]
    return fold(name, records, len(records), known or ShardCache(set()), rules(**given), NOW_MS)


def month(delta: RangeDelta, *names: str) -> dict[str, int]:
    """Counts of a month: of everything, or of a scope by dimension and names."""
    scope = Scope(names[0], names[1:]) if names else EVERYTHING
    return delta.counts.get(("2026-11", scope), {})


FAILURE = LOGIN | {"success": False, "realm": "acme", "client_id": "web", "node": "n1"}


def test_a_failure_makes_its_realm_and_node_known_and_its_client_not() -> None:
    delta = folded(FAILURE, counts_by="realm,client,node")
    assert delta.labels == {fields.label("realm", "acme"), fields.label("node", "n1")}
    for scope in (("realm", "acme"), ("node", "n1"), ("client", "acme", OTHER), ()):
        assert month(delta, *scope) == {fields.failed("unspecified"): 1}, scope


def test_where_a_setting_restricts_labels_to_successes_a_failure_makes_nothing_known() -> None:
    delta = folded(FAILURE, labels_on="success", counts_by="realm,client,node")
    assert delta.labels == set()
    for scope in (("realm", OTHER), ("node", OTHER), ("client", OTHER, OTHER), ()):
        assert month(delta, *scope) == {fields.failed("unspecified"): 1}, scope


@pytest.mark.parametrize("kind", sorted(fields.FAILURE_KINDS))
def test_an_account_event_that_no_success_caused_makes_its_realm_known_and_its_client_not(kind: str) -> None:
    event = {"time": LOGIN["time"], "kind": kind, "realm": "acme", "client_id": "typed"}
    delta = folded(event, name="account")
    assert delta.labels == {fields.label("realm", "acme")}
    assert month(delta, "client", "acme", OTHER) == {fields.account(kind): 1}


def test_failures_before_and_after_a_success_count_where_the_client_stood_then() -> None:
    delta = folded(FAILURE, FAILURE, FAILURE | {"success": True}, FAILURE)
    assert month(delta, "client", "acme", OTHER) == {fields.failed("unspecified"): 2}
    assert month(delta, "client", "acme", "web") == {fields.LOGIN: 1, fields.failed("unspecified"): 1}
    assert month(delta, "realm", "acme") == {fields.LOGIN: 1, fields.failed("unspecified"): 3}


def test_labels_beyond_the_limit_add_up_under_other_first_come_first_kept() -> None:
    delta = folded(*(LOGIN | {"realm": f"r{number}"} for number in (1, 2, 3, 1, 4)), max_labels=2)
    assert delta.labels == {fields.label("realm", "r1"), fields.label("realm", "r2")}
    assert month(delta, "realm", OTHER) == {fields.LOGIN: 2}
    assert month(delta, "realm", "r1") == {fields.LOGIN: 2}
    assert month(delta) == {fields.LOGIN: 5}
    assert delta.progress[fields.overflowed("realm")] == 2


def test_labels_known_before_count_against_the_limit() -> None:
    known = ShardCache({fields.label("realm", "old")})
    delta = folded(LOGIN | {"realm": "new"}, LOGIN | {"realm": "old"}, known=known, max_labels=1)
    assert month(delta, "realm", OTHER) == {fields.LOGIN: 1}
    assert month(delta, "realm", "old") == {fields.LOGIN: 1}
    assert delta.labels == set()


def test_a_client_of_an_unknown_realm_has_no_name() -> None:
    delta = folded(
        LOGIN | {"realm": "r1", "client_id": "web"}, LOGIN | {"realm": "r2", "client_id": "web"}, max_labels=1
    )
    assert month(delta, "client", "r1", "web") == {fields.LOGIN: 1}
    assert month(delta, "client", OTHER, OTHER) == {fields.LOGIN: 1}


def test_clients_of_two_realms_and_of_none_are_three() -> None:
    delta = folded(
        LOGIN | {"realm": "a", "client_id": "web"},
        LOGIN | {"realm": "b", "client_id": "web"},
        LOGIN | {"client_id": "web"},
    )
    for realm in ("a", "b", ""):
        assert month(delta, "client", realm, "web") == {fields.LOGIN: 1}


def test_reasons_beyond_their_limit_join_other_but_reserved_ones_never_do() -> None:
    room = fields.MAX_WORDS
    failures = [LOGIN | {"success": False, "reason": f"odd {number}"} for number in range(room + 3)]
    delta = folded(*failures, LOGIN | {"success": False, "reason": "locked"})
    assert month(delta)[fields.failed(OTHER)] == 3
    assert month(delta)[fields.failed("locked")] == 1
    assert len([member for member in delta.labels if member.startswith("all/reason/")]) == room


def test_a_flood_of_random_clients_stays_bounded_and_totals_stay_exact() -> None:
    delta = folded(
        *(LOGIN | {"realm": "acme", "client_id": f"forged {number}"} for number in range(5_000)), max_labels=50
    )
    most = 50 + fields.REALM_CLIENTS
    assert len(delta.labels) == most + 1
    assert len(delta.counts) == 2 * (1 + 1 + most + 1)
    assert month(delta) == {fields.LOGIN: 5_000}
    assert month(delta, "client", "acme", OTHER) == {fields.LOGIN: 5_000 - most}


def test_bad_records_in_the_middle_leave_the_rest_alone() -> None:
    delta = folded(LOGIN, b"nope", LOGIN | {"user_id": "bob"}, b"[]", LOGIN | {"realm": "x" * 300})
    assert month(delta) == {fields.LOGIN: 2}
    assert [(letter.record.offset, letter.reason) for letter in delta.dead_letters] == [
        (1, "not_json"),
        (3, "not_an_object"),
        (4, "too_long"),
    ]
    assert delta.progress[fields.CONSUMED] == 5
    assert delta.progress[fields.COUNTED] == 2
    assert delta.progress[fields.dead("not_json")] == 1
    assert delta.labels == set()


def test_a_bad_user_on_a_known_way_is_still_refused() -> None:
    delta = folded(LOGIN, LOGIN | {"user_id": ""}, LOGIN | {"user_id": "ü" * 600}, LOGIN | {"id": "ü" * 600})
    assert [letter.reason for letter in delta.dead_letters] == ["missing_field", "too_long", "too_long"]


def users(delta: RangeDelta, period: str = "2026-11") -> int:
    return sum(map(len, delta.users.get((period, EVERYTHING), [])))


TOKEN: dict[str, object] = LOGIN | {"tokens": ["access_token"]}


@pytest.mark.parametrize(
    ("name", "event", "active_on", "active", "why"),
    [
        ("login", LOGIN, "login,refresh", 1, "a success"),
        ("login", LOGIN | {"counted": False}, "login,refresh", 1, "a renewed session"),
        ("login", LOGIN | {"success": False}, "login,refresh", 0, "a failure"),
        ("login", LOGIN, "refresh", 0, "logins do not make active here"),
        ("token", TOKEN | {"grant_type": "refresh_token"}, "login,refresh", 1, "a refresh"),
        ("token", TOKEN | {"grant_type": "refresh_token"}, "login", 0, "refreshes do not make active here"),
        ("token", TOKEN | {"grant_type": "refresh_token", "user_id": None}, "login,refresh", 0, "no user is named"),
        ("token", TOKEN | {"grant_type": "authorization_code"}, "login,refresh", 0, "its login counted already"),
        ("token", TOKEN | {"grant_type": "client_credentials"}, "login,refresh", 0, "a service account is no user"),
        ("account", LOGIN | {"kind": "signup"}, "login,refresh", 0, "an account event"),
    ],
)
def test_who_is_active(name: str, event: dict[str, object], active_on: str, active: int, why: str) -> None:
    assert users(folded(event, name=name, active_on=active_on)) == active, why


def test_equal_names_of_two_realms_are_one_user_or_two() -> None:
    two = (LOGIN | {"realm": "a"}, LOGIN | {"realm": "b"})
    for scope, distinct in (("global", 1), ("realm", 2)):
        delta = folded(*two, user_scope=scope)
        assert len({user for part in delta.users["2026-11", EVERYTHING] for user in part}) == distinct


E_ACUTE = ("Jos\u00e9", "Jose\u0301")
"""One name in two Unicode forms: composed and decomposed."""


@pytest.mark.parametrize(
    ("setting", "user_ids", "distinct"),
    [
        ("off", ("Ada", "ada"), 2),
        ("off", E_ACUTE, 2),
        ("nfc", E_ACUTE, 1),
        ("nfc", ("Ada", "ada"), 2),
        ("nfc-casefold", ("Ada", "ADA", "ada"), 1),
        ("nfc-casefold", (*E_ACUTE, "JOS\u00c9", "JOSE\u0301"), 1),
        ("nfc-casefold", ("Stra\u00dfe", "STRASSE"), 1),
        ("nfc-casefold", ("\u03a3\u0391\u03a3", "\u03c3\u03b1\u03c2"), 1),
        ("nfc-casefold", ("\uff21da", "Ada"), 2),
    ],
)
def test_user_ids_that_differ_in_case_or_form(setting: str, user_ids: tuple[str, ...], distinct: int) -> None:
    delta = folded(*(LOGIN | {"user_id": user_id} for user_id in user_ids), user_id_normalize=setting)
    assert len({user for part in delta.users["2026-11", EVERYTHING] for user in part}) == distinct
    digest = Digest("a key of the tests", setting)  # type: ignore[arg-type]
    assert len({digest.holder(user_id) for user_id in user_ids}) == distinct, "owners of OTP tokens likewise"
    for user_id in user_ids:
        once = NORMALIZERS[setting](user_id)
        assert NORMALIZERS[setting](once) == once


def test_a_user_applied_before_is_not_sent_again_and_counts_all_the_same() -> None:
    known = ShardCache(set())
    known.update(folded(LOGIN))
    delta = folded(LOGIN, LOGIN | {"user_id": "bob"}, known=known)
    assert users(delta) == 1
    assert month(delta) == {fields.LOGIN: 2}


def test_months_only_keeps_no_days() -> None:
    delta = folded(LOGIN, retain_days=0)
    assert delta.periods == {"2026-11"}
    assert delta.record_times == {}


def test_the_same_token_type_twice_counts_twice() -> None:
    delta = folded(TOKEN | {"grant_type": "password", "tokens": ["access_token", "access_token"]}, name="token")
    assert month(delta) == {fields.token("password", "access_token"): 2}


@pytest.mark.parametrize(
    ("time", "day", "why"),
    [
        ("2026-10-31T23:59:59.9999999Z", "2026-10-31", "seven digits, rounded it is November"),
        ("2026-10-31T23:59:59.999999999Z", "2026-10-31", "nanoseconds"),
        ("2026-11-01T00:00:00.0000000Z", "2026-11-01", "midnight with seven digits"),
        ("2026-11-01T00:00:00Z", "2026-11-01", "midnight"),
    ],
)
@pytest.mark.parametrize("first", ["2026-10-31T20:00:00Z", "2026-11-01T01:00:00Z"], ids=["day before", "day after"])
def test_a_fraction_is_cut_and_never_rounded_up(time: str, day: str, why: str, first: str) -> None:
    delta = folded(LOGIN | {"time": first, "realm": "other"}, LOGIN | {"time": time, "realm": "acme"})
    periods = {period for period, scope in delta.counts if scope == Scope("realm", ("acme",))}
    assert periods == {day, day[:7]}, why


LONG = "x" * 300
LONG_IN_BYTES = "東" * 90


@pytest.mark.parametrize("text", [LONG, LONG_IN_BYTES], ids=["characters", "bytes"])
def test_a_failure_counts_though_its_texts_are_over_their_limits(text: str) -> None:
    events = [FAILURE | {"client_id": text}, FAILURE | {"reason": text}, FAILURE | {"user_id": text * 4}]
    delta = folded(FAILURE, *events, FAILURE | {"realm": text})
    assert delta.dead_letters == []
    assert sum(month(delta).values()) == 5
    assert month(delta)[fields.failed(OTHER)] == 1
    assert sum(month(delta, "realm", "acme").values()) == 4
    assert sum(month(delta, "realm", OTHER).values()) == 1


@pytest.mark.parametrize("field", ["realm", "client_id", "node", "user_id", "id"])
def test_a_success_over_a_limit_is_a_dead_letter(field: str) -> None:
    delta = folded(LOGIN | {field: LONG * 4})
    assert [letter.reason for letter in delta.dead_letters] == ["too_long"]


def test_a_byte_order_mark_before_json_is_skipped() -> None:
    delta = folded(b"\xef\xbb\xbf" + json.dumps(LOGIN | {"time": "2026-10-31T23:59:59.9999999Z"}).encode())
    assert delta.periods == {"2026-10-31", "2026-10"}
