"""What the ledger of a run decides by: an event that is missing, there twice, or of unknown outcome is found out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import EVERYTHING
from tests.qualification.chaos.lanes import IN_TRANSACTION, TEMPLATE_BITS, Lane, contributions
from tests.qualification.chaos.templates import CHUNK, NAMED, TEMPLATES, Templates

FIRST_MS = 1_795_000_000_000


@pytest.fixture(scope="module")
def templates() -> Templates:
    return Templates("logins", "login", seed=3)


@pytest.fixture
def lane(templates: Templates) -> Lane:
    lane = Lane(Shard("logins", 0), templates, FIRST_MS)
    lane.opened = len(templates.openings)
    return lane


def read(lane: Lane, keys: list[bytes], start: int = 0) -> None:
    lane.read(b"".join(keys), range(start, start + len(keys)), [FIRST_MS] * len(keys))


def plainly(lane: Lane, events: list[dict[str, Any]]) -> Counter[str]:
    """Logins of everything and all months, one by one."""
    seen, found = set(), Counter[str]()
    for event in [*lane.templates.openings, *events]:
        if "id" in event:
            if event["id"] in seen:
                continue
            seen.add(event["id"])
        if event.get("success", True) and event.get("counted", True):
            found[event["time"][:7]] += 1
    return found


def held(lane: Lane) -> Counter[str]:
    wanted = lane.expected(contributions(lane.templates), FIRST_MS)
    return Counter(
        {
            period: counts[fields.LOGIN]
            for (period, scope), counts in wanted.counts.items()
            if scope == EVERYTHING and len(period) == 7
        }
    )


def test_what_is_expected_is_the_plain_sum_of_what_the_log_holds(lane: Lane) -> None:
    events: list[dict[str, Any]] = []
    for number in range(40):
        read(lane, lane.next_chunk()[0], number * CHUNK)
        drawn = lane.templates.chunk(lane.shard, number).tolist()
        events += [lane.templates.events[one] for one in drawn if one != TEMPLATES - NAMED - 1]
    assert any("id" in event for event in events)
    assert held(lane) == plainly(lane, events)
    assert (
        lane.expected(contributions(lane.templates), FIRST_MS).progress[fields.CONSUMED]
        == lane.events
        == 40 * CHUNK + lane.opened
    )
    assert len(lane.bad_at) == 40 * CHUNK - len(events)
    assert lane.missing() == lane.twice == []


def test_an_acknowledged_event_that_the_log_lacks_is_missing_and_one_of_unknown_outcome_is_not(lane: Lane) -> None:
    keys = lane.next_chunk()[0]
    lane.unknown.append(7)
    read(lane, [key for number, key in enumerate(keys) if number not in (3, 7)])
    assert lane.missing() == [3]
    assert lane.events == CHUNK - 2 + lane.opened


@pytest.mark.parametrize("again_at_once", [True, False])
def test_an_event_that_the_log_holds_twice_is_found(lane: Lane, again_at_once: bool) -> None:
    keys = lane.next_chunk()[0]
    if again_at_once:
        read(lane, [*keys, keys[5]])
    else:
        read(lane, keys)
        read(lane, [keys[5]], len(keys))
    assert lane.twice == [5]


def test_an_event_of_a_transaction_counts_once_it_is_read(lane: Lane) -> None:
    login = next(number for number, event in enumerate(lane.templates.events) if event.get("success", True))
    read(lane, [(IN_TRANSACTION | 9 << TEMPLATE_BITS | login).to_bytes(8, "big")])
    assert lane.committed_transactions == {9}
    assert lane.events == 1 + lane.opened


def test_figures_of_a_topic_made_anew_add_to_those_of_the_old_one(lane: Lane) -> None:
    read(lane, lane.next_chunk()[0])
    before = held(lane)
    lane.begin_anew()
    assert held(lane) == before
    read(lane, lane.next_chunk()[0])
    # The same numbers are the same events again: each counts twice, apart from those with an id.
    assert (held(lane) - before).total() > 0.9 * (before - plainly(lane, [])).total()


def test_what_was_acknowledged_and_never_read_is_missing(lane: Lane) -> None:
    lane.next_chunk()
    assert lane.missing() == list(range(lane.sent))
    lane.unknown = [0, lane.sent + 7]
    assert lane.missing() == list(range(1, lane.sent))


def test_each_event_that_makes_a_realm_known_is_expected_to(lane: Lane) -> None:
    realms = {event["realm"] for event in lane.templates.openings if "realm" in event}
    named = [
        (event["realm"], one)
        for event, one in zip(lane.templates.events, contributions(lane.templates), strict=True)
        if event.get("realm", "acme") not in realms
    ]
    assert len(named) > 1
    assert all(fields.label("realm", realm) in one.labels for realm, one in named)
