"""Shares: how many clients and words a realm can make known, in log order, whatever other realms send."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.fold.fold import fold
from aggregator.fold.labels import Labels, table_sizes
from aggregator.fold.range_delta import CountingRules, ShardCache
from schemas.ledger import fields
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, LogRecord
from tests.aggregator.sums import Sums, summed

AT: Final = "2026-11-20T09:00:00Z"
AT_MS: Final = 1_795_165_200_000
CUTTINGS: Final[list[list[int]]] = [[], [1, 2, 3], list(range(0, 4_000, 7)), list(range(0, 4_000, 250))]
GUARANTEED: Final = fields.REALM_CLIENTS
MAX_LABELS: Final = 10
"""The pool of clients is twice as large."""


def rules(**given: Any) -> CountingRules:
    return CountingRules.of(ledgers.settings("redis://nowhere", **{"max_labels": MAX_LABELS, **given}))


def log_of(events: Sequence[dict[str, Any]]) -> list[LogRecord]:
    return [
        LogRecord(offset, AT_MS, json.dumps({"time": AT, "user_id": "ada", **event}).encode())
        for offset, event in enumerate(events)
    ]


def counted(events: Sequence[dict[str, Any]], **given: Any) -> Sums:
    """The sums of the events, equal for every cutting."""
    sums = [summed("login", log_of(events), cuts, rules(**given), NOW_MS) for cuts in CUTTINGS]
    assert all(other == sums[0] for other in sums)
    return sums[0]


def clients(realm: str | None, count: int) -> list[dict[str, Any]]:
    return [{"realm": realm, "client_id": f"{realm} {number}"} for number in range(count)]


def failures(realm: str, count: int) -> list[dict[str, Any]]:
    return [{"realm": realm, "success": False, "reason": f"{realm} {number}"} for number in range(count)]


def known(sums: Sums, dimension: str) -> Counter[str]:
    """The number of known clients or words by realm."""
    split = [fields.split(member) for member in sums.labels]
    return Counter(parts[1] for parts in split if parts[0] == dimension and len(parts) == 3)


def month(sums: Sums, *scope: str) -> Counter[str]:
    return sums.counts["2026-11", Scope(scope[0], scope[1:]) if scope else EVERYTHING]


HALF: Final = GUARANTEED + MAX_LABELS
"""The clients of a realm that found the whole pool: it takes half."""


@pytest.mark.parametrize(
    ("events", "expected", "why"),
    [
        (clients("acme", 500), {"acme": HALF}, "a lone realm takes half of the pool"),
        (clients(None, 500), {"": HALF}, "events without a realm are one realm"),
        (clients("bad", 500) + clients("acme", 500), {"bad": HALF, "acme": GUARANTEED + 5}, "half of what is left"),
        (clients("acme", 500) + clients("bad", 500), {"acme": HALF, "bad": GUARANTEED + 5}, "and the other way round"),
        (
            [event for pair in zip(clients("bad", 500), clients("acme", 500), strict=True) for event in pair],
            {"bad": GUARANTEED + 7, "acme": GUARANTEED + 7},
            "two that alternate take a third each",
        ),
        (
            clients("bad", 500) + [event for n in range(9) for event in clients(f"r{n}", 40)],
            {"bad": HALF, "r0": 21, "r1": 19, "r2": 17, "r3": 17} | {f"r{n}": GUARANTEED for n in range(4, 9)},
            "an empty pool leaves every realm its own",
        ),
    ],
)
def test_a_realm_makes_its_own_clients_known_and_takes_half_of_the_pool(
    events: list[dict[str, Any]], expected: dict[str, int], why: str
) -> None:
    sums = counted(events)
    assert known(sums, "client") == expected, why
    came = Counter(event["realm"] or "" for event in events)
    assert sums.shares == {
        **{fields.share(fields.label("client", realm, "")): number for realm, number in expected.items()},
        **{fields.refused("client", realm): came[realm] - number for realm, number in expected.items()},
    }
    assert month(sums)[fields.LOGIN] == len(events), "totals stay exact"
    refused = len(events) - sum(expected.values())
    assert sums.progress[fields.overflowed("client")] == refused
    others = [month(sums, "client", realm, OTHER)[fields.LOGIN] for realm in expected]
    assert sum(others) == refused


def test_a_shard_holds_at_most_18_times_max_labels_clients_and_those_without_a_realm() -> None:
    events = [event for number in range(2 * MAX_LABELS) for event in clients(f"r{number}", 100)]
    sums = counted([*events[:2_000], *clients(None, 100)])
    assert sum(known(sums, "client").values()) == 18 * MAX_LABELS + GUARANTEED
    assert sum(member.startswith("realm/") for member in sums.labels) == MAX_LABELS


def test_a_victims_figures_are_the_same_with_and_without_a_flood() -> None:
    victim = clients("acme", GUARANTEED) + failures("acme", fields.REALM_WORDS) + clients("acme", GUARANTEED)
    flood = clients("bad", 1_000) + failures("bad", 1_000)
    alone, attacked = counted(victim), counted([*flood[::2], *victim, *flood[1::2]])
    for where in (Scope("realm", ("acme",)), *(Scope("client", ("acme", f"acme {n}")) for n in range(GUARANTEED))):
        assert attacked.counts["2026-11", where] == alone.counts["2026-11", where] != Counter()
        assert attacked.users["2026-11", where] == alone.users["2026-11", where]
    assert month(attacked, "client", "acme", OTHER) == month(alone, "client", "acme", OTHER) == Counter()


WORDS_HALF: Final = fields.REALM_WORDS + fields.WORD_POOL // 2


def test_words_have_shares_too_and_a_table_of_their_own_for_everything() -> None:
    sums = counted(failures("bad", 500) + failures("acme", 500) + [{"realm": "acme", "success": False}])
    assert known(sums, "reason") == {"bad": WORDS_HALF, "acme": fields.REALM_WORDS + fields.WORD_POOL // 4}
    assert known(sums, "all") == {"reason": fields.MAX_WORDS}
    acme = month(sums, "realm", "acme")
    assert acme[fields.failed("acme 57")] == 1
    assert acme[fields.failed(OTHER)] == 500 - 58
    everything = month(sums)
    assert everything[fields.failed("bad 99")] == 1
    assert everything[fields.failed("acme 0")] == 0
    assert everything[fields.failed(OTHER)] == 1_000 - fields.MAX_WORDS
    for counts in (acme, everything):
        assert counts[fields.failed(fields.UNSPECIFIED)] == 1, "a well-known word uses no share"


def test_words_are_of_their_realm_and_nodes_share_those_of_everything() -> None:
    kept = {"counts_by": "realm,client,node"}
    events = [*failures("bad", 500), {"realm": "acme", "success": False, "reason": "odd", "node": "n1"}]
    sums = counted([{"node": "n1"}, *events], **kept)
    assert month(sums, "realm", "acme") == {fields.failed("odd"): 1}
    assert month(sums, "node", "n1") == {fields.LOGIN: 1, fields.failed(OTHER): 1}


@pytest.mark.parametrize(("kept", "why"), [("node", "only nodes"), ("", "nothing but everything")])
def test_words_use_no_share_where_no_realm_has_counters(kept: str, why: str) -> None:
    sums = counted(failures("acme", 200), counts_by=kept)
    assert known(sums, "all") == {"reason": fields.MAX_WORDS}, why
    assert sums.shares == {}


def test_labels_and_words_of_format_1_stay_known_and_use_no_share() -> None:
    old = {fields.label("realm", "acme"), fields.label("reason", "old"), fields.label("grant", "old")}
    old |= {fields.label("client", "acme", f"old {number}") for number in range(2_000)}
    events = [
        *({"realm": "acme", "client_id": f"old {number}"} for number in (0, 1_999)),
        *clients("acme", 100),
        {"realm": "acme", "success": False, "reason": "old"},
        *failures("acme", fields.MAX_WORDS),
    ]
    delta = fold("login", log_of(events), len(events), ShardCache(old), rules(), NOW_MS)
    acme = delta.counts["2026-11", Scope("realm", ("acme",))]
    assert delta.counts["2026-11", Scope("client", ("acme", "old 1999"))] == {fields.LOGIN: 1}
    assert acme[fields.failed("old")] == delta.counts["2026-11", EVERYTHING][fields.failed("old")] == 1
    refused = {fields.refused("client", "acme"): 100 - HALF}
    assert delta.shares == {"client/acme": HALF, "reason/acme": fields.MAX_WORDS} | refused
    common = [member for member in delta.labels if member.startswith("all/reason/")]
    assert len(common) == fields.MAX_WORDS - 1, "the old reason has a place among those of everything"


bursts = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d/e", ""]), st.sampled_from("xyz"), st.integers(1, 30)), max_size=12
)
"""A realm, the beginning of its clients' names, and how many of them come."""


@settings(max_examples=300, deadline=None)
@given(bursts, st.lists(st.integers(0, 100), max_size=6), st.integers(1, 12), st.booleans())
def test_admission_follows_the_formula_in_any_cutting(
    log: list[tuple[str, str, int]], cuts: list[int], max_labels: int, words: bool
) -> None:
    names = [(realm, f"{start}{number}") for realm, start, count in log for number in range(count)]
    guaranteed = fields.REALM_WORDS if words else GUARANTEED
    pool = fields.WORD_POOL if words else 2 * max_labels
    held: dict[str, set[str]] = {}
    expected = []
    for realm, name in names:
        mine = held.setdefault(realm, set())
        used = sum(max(len(each) - guaranteed, 0) for each in held.values())
        if name not in mine and (len(mine) < guaranteed or len(mine) - guaranteed < pool - used):
            mine.add(name)
        expected.append(name if name in mine else OTHER)
    borders = [0, *sorted({cut for cut in cuts if cut < len(names)}), len(names)]
    cache, found = ShardCache(set()), []
    for start, end in pairwise(borders):
        labels = Labels(cache.labels, table_sizes(cache.labels), cache.shares, max_labels)
        for realm, name in names[start:end]:
            found.append(
                labels.admit_word("reason", realm, name) if words else labels.admit_client(realm, name, may_add=True)
            )
        cache.labels |= labels.new
        cache.shares.update(labels.new_shares)
    assert found == expected
