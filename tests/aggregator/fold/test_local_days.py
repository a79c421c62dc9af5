"""A zone that was set back just after midnight: the day of an event does not depend on how the log was cut."""

from __future__ import annotations

from datetime import date
from itertools import permutations

import pytest

from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, ShardCache
from aggregator.inventory.changes import ChangesBuilder
from aggregator.inventory.state import InventoryState
from schemas.events import OtpTokenCount, OtpTokenState, decode_native
from schemas.ledger.inventory import RealmTotals, days
from schemas.ledger.scopes import EVERYTHING
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, record

STATE = b'{"time":"%b","serial":"S%d","event":"e","realms":["r"],"active":true,"assigned":false}'
RULES = CountingRules.of(ledgers.settings("redis://nowhere", timezone="America/St_Johns"))
ON = {
    "2009-11-01T02:29:59Z": "2009-10-31",
    "2009-11-01T02:30:00Z": "2009-11-01",
    "2009-11-01T02:30:59Z": "2009-11-01",
    "2009-11-01T02:31:00Z": "2009-10-31",
    "2009-11-01T03:30:00Z": "2009-11-01",
}
"""At 00:01 of November the clocks went back to 23:01 of October."""
ORDERS = list(permutations(ON))[::7]


@pytest.mark.parametrize("times", ORDERS)
def test_an_event_counts_on_its_day_in_one_range_and_in_many(times: tuple[str, ...]) -> None:
    log = [record(offset, {"time": time, "user_id": "u"}) for offset, time in enumerate(times)]
    together = fold("login", log, len(log), ShardCache(set()), RULES, NOW_MS)
    expected: dict[str, int] = {}
    for at, time in enumerate(times):
        alone = fold("login", log[at : at + 1], at + 1, ShardCache(set()), RULES, NOW_MS)
        assert {period for period, scope in alone.counts if scope == EVERYTHING} == {ON[time], ON[time][:7]}
        for period in (ON[time], ON[time][:7]):
            expected[period] = expected.get(period, 0) + 1
    assert {period: counts["login"] for (period, scope), counts in together.counts.items() if scope == EVERYTHING} == (
        expected
    )


@pytest.mark.parametrize("times", ORDERS)
def test_a_row_of_the_inventory_has_its_day(times: tuple[str, ...]) -> None:
    changing = ChangesBuilder(InventoryState({}, {}, {}, {}), RULES)
    for sequence, time in enumerate(times):
        value = b'{"time":"%b","realm":"r","event":"e","status":"total","count":1}' % time.encode()
        event = decode_native("otp-count", value)
        assert isinstance(event, OtpTokenCount), event
        changing.fold_count(event, sequence)
    (by_day,) = changing.finish().external_days.values()
    assert {date.fromordinal(day).isoformat() for day in by_day} == set(ON.values())


@pytest.mark.parametrize("cuts", [(5,), (1, 2, 3, 4, 5), (2, 5), (3, 4, 5)])
def test_days_of_a_realms_rows_ascend_in_one_range_and_in_many(cuts: tuple[int, ...]) -> None:
    state = InventoryState({}, {}, {}, {})
    over: dict[int, int] = {}
    start = 0
    for end in cuts:
        changing = ChangesBuilder(state, RULES)
        for number, time in list(enumerate(ON))[start:end]:
            state.tokens.setdefault(f"S{number}", None)
            value = STATE % (time.encode(), number)
            event = decode_native("otp", value)
            assert isinstance(event, OtpTokenState), event
            changing.fold_state(event, b"")
        changes = changing.finish()
        state.apply(changes)
        for slots in changes.days.values():
            over |= {slot: next(days(packed)).ordinal for slot, packed in slots.items()}
        start = end
    last = RealmTotals.unpack(state.totals[0])
    assert [date.fromordinal(day).isoformat() for day in (*over.values(), last.day)] == ["2009-10-31", "2009-11-01"]
    assert (last.rows, last.day_first) == (5, 1)
