"""Topics bound to adapters: elements of a record, what is ignored, what goes to the dead letters and how it adds up."""

from __future__ import annotations

import json
from typing import Any

from aggregator.fold import fold as fold_module
from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, RangeDelta, ShardCache
from aggregator.kafka.dead_letters import INDEX, headers
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, LogRecord, record

AT_MS = 1_795_168_800_000  # 2026-11-20, ten o'clock
LOGIN = {"id": "1", "time": AT_MS, "type": "LOGIN", "realmName": "shop", "clientId": "web", "userId": "alice"}
PASSWORD = LOGIN | {"id": "2", "details": {"grant_type": "password", "token_id": "t"}}
AUTH0 = {"log_id": "1", "data": {"type": "s", "user_id": "u", "client_id": "c", "date": "2026-11-20T10:00:00Z"}}


def folded(adapter: str, *values: object, known: ShardCache | None = None, **given: Any) -> RangeDelta:
    log = [LogRecord(offset, AT_MS, json.dumps(value).encode()) for offset, value in enumerate(values)]
    return fold(
        adapter,
        log,
        len(log),
        known or ShardCache(set()),
        CountingRules.of(ledgers.settings("redis://nowhere", **given)),
        NOW_MS,
    )


def month(delta: RangeDelta) -> dict[str, int]:
    return delta.counts.get(("2026-11", EVERYTHING), {})


def test_what_is_of_no_concern_is_ignored_and_counted_as_such() -> None:
    delta = folded("keycloak", LOGIN, {"id": "3", "time": AT_MS, "type": "LOGOUT", "userId": "alice"})
    assert month(delta) == {fields.LOGIN: 1}
    assert delta.progress == {fields.CONSUMED: 2, fields.COUNTED: 1, fields.IGNORED: 1}


def test_unknown_types_are_counted_in_log_order() -> None:
    delta = folded("keycloak", {"type": "NEW"}, {"type": "LOGOUT"}, LOGIN, {"type": "NEWER"}, {"type": "NEW"})
    assert delta.progress == {fields.CONSUMED: 5, fields.COUNTED: 1, fields.IGNORED: 4}
    assert list(delta.unknown_types.items()) == [("NEW", 2), ("NEWER", 1)]


def test_a_realm_that_comes_by_id_is_named_by_the_setting() -> None:
    by_id = {name: value for name, value in LOGIN.items() if name != "realmName"} | {"id": "4", "realmId": "9f3e"}
    delta = folded("keycloak", LOGIN, by_id, LOGIN | {"id": "5", "realmName": "other"}, realm_names="9f3e=shop")
    of_shop = delta.counts["2026-11", Scope("realm", ("shop",))]
    assert of_shop == {fields.LOGIN: 2}
    assert delta.counts["2026-11", Scope("realm", ("other",))] == {fields.LOGIN: 1}


def test_an_element_with_a_login_and_tokens_is_one_event_however_often_it_is_sent() -> None:
    delta = folded("keycloak", PASSWORD, PASSWORD)
    assert month(delta) == {fields.LOGIN: 1, fields.token("password", "access_token"): 1}
    assert delta.progress == {fields.CONSUMED: 2, fields.COUNTED: 1, fields.DUPLICATES: 1}


def test_the_elements_of_an_array_are_events_and_the_bad_ones_alone_are_dead() -> None:
    bad = {"log_id": "2", "data": {"type": "s", "user_id": 7}}
    delta = folded("auth0-logs", [AUTH0, bad, AUTH0 | {"log_id": "3"}], [])
    assert month(delta)[fields.LOGIN] == 2
    assert delta.progress == {fields.CONSUMED: 3, fields.COUNTED: 2, fields.dead("wrong_type"): 1}
    (letter,) = delta.dead_letters
    assert json.loads(letter.value or b"") == bad
    assert dict(headers(Shard("logs", 0), letter))[INDEX] == b"1"


def test_the_state_of_an_otp_token_is_dead_where_events_only_add_up() -> None:
    state = {"type": "otp", "time": "2026-11-20T10:00:00Z", "serial": "s", "event": "token_init"}
    delta = folded("native", state | {"realms": [], "active": True, "assigned": False})
    assert delta.progress == {fields.CONSUMED: 1, fields.COUNTED: 0, fields.dead("wrong_topic"): 1}


def test_a_range_never_ends_inside_a_record(monkeypatch: Any) -> None:
    monkeypatch.setattr(fold_module, "MAX_USER_ADDITIONS", 1)
    array = [AUTH0 | {"log_id": str(n), "data": AUTH0["data"] | {"user_id": f"user-{n}"}} for n in range(5)]  # type: ignore[operator]
    delta = folded("auth0-logs", array, array, array)
    assert delta.end == 1
    assert delta.progress[fields.CONSUMED] == 5


def test_active_clients_are_those_of_successes_each_once_per_range_and_never_again() -> None:
    events: list[dict[str, object]] = [
        {"time": "2026-11-20T10:00:00Z", "user_id": "a", "realm": realm, "client_id": client, "success": success}
        for realm, client, success in (("r", "web", True), ("r", "web", True), ("s", "web", True), ("r", "x", False))
    ]
    log = [record(offset, event) for offset, event in enumerate(events)]
    rules = CountingRules.of(ledgers.settings("redis://nowhere"))
    known = ShardCache(set())
    delta = fold("login", log, len(log), known, rules, NOW_MS)
    assert {period: len(found) for period, found in delta.clients.items()} == {"2026-11": 2, "2026-11-20": 2}
    known.update(delta)
    assert fold("login", log, len(log), known, rules, NOW_MS).clients == {}
