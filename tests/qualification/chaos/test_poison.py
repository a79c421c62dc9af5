"""What the harness expects of hostile records agrees with the product's decoders, and follows from the timestamps."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.events import REASONS, BadRecordError, RecordTime, decode
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from tests.qualification.chaos.lanes import Lane, contributions
from tests.qualification.chaos.poison import MARK, Counts, Dead, Specimen, corpus, fates, is_usable, stamps
from tests.qualification.chaos.templates import BAD, Templates

NOW_MS = 1_795_000_000_000
NATIVE = [(event, one) for event in ("login", "token") for one in corpus(event, NOW_MS) if not one.defect]


@pytest.mark.parametrize(("event", "one"), NATIVE, ids=[f"{event}: {one.name}" for event, one in NATIVE])
def test_a_specimen_with_a_good_timestamp_is_what_the_decoder_says(event: str, one: Specimen) -> None:
    (fate,) = fates(one.becomes, 7, NOW_MS, NOW_MS)
    if isinstance(fate, Dead):
        with pytest.raises(BadRecordError) as bad:
            decode(event, one.value_of(7), RecordTime(NOW_MS))
        assert bad.value.reason == fate.reason
        return
    held = decode(event, one.value_of(7), RecordTime(NOW_MS))
    assert held.time == datetime.fromisoformat(fate.event["time"])
    assert held.id == fate.event.get("id")


USABLE = {"year 2000", "yesterday", "tomorrow"}


def test_record_timestamps_are_usable_from_2000_to_a_day_ahead() -> None:
    assert {name for name, stamp_ms in stamps(NOW_MS).items() if is_usable(stamp_ms, NOW_MS)} == USABLE


@pytest.mark.parametrize(
    ("stamp", "timed", "timeless"),
    [
        ("none", "counts", "no_time"),
        ("microseconds", "counts", "no_time"),
        ("lowest", "counts", "no_time"),
        ("year 2100", "counts", "no_time"),
        ("year 2000", "impossible_time", "counts"),
        ("yesterday", "counts", "counts"),
        ("tomorrow", "counts", "counts"),
    ],
)
def test_fates_by_timestamp(stamp: str, timed: str, timeless: str) -> None:
    time = datetime.fromtimestamp(NOW_MS / 1000 - 3600, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    given = [Counts({"time": time}), Counts({})]
    found = fates(given, 1, stamps(NOW_MS)[stamp], NOW_MS)
    assert [one.reason if isinstance(one, Dead) else "counts" for one in found] == [timed, timeless]


@pytest.mark.parametrize("event", ["login", "token", "cloudevents"])
def test_names_of_specimens_are_unique_and_reasons_are_known(event: str) -> None:
    held = corpus(event, NOW_MS)
    assert len({one.name for one in held}) == len(held)
    assert {one.reason for each in held for one in each.becomes if isinstance(one, Dead)} <= REASONS.keys()
    assert all(each.key is None or len(each.key) != 8 for each in held), "eight bytes name an event of the flow"


def test_a_lane_expects_each_poisoned_record_once_by_its_fate() -> None:
    templates = Templates("logins", "login", seed=3)
    lane = Lane(Shard("logins", 0), templates, NOW_MS)
    numbers = {one.name: number for number, one in enumerate(templates.corpus)}
    login = next(number for number, event in enumerate(templates.events) if event.get("success", True))
    sent: list[tuple[int, str]] = [
        *((numbers[name], "yesterday") for name in ("one byte", "repeated", "plain", "defect")),
        *((numbers[name], "year 2100") for name in ("one byte", "repeated", "plain")),
        (len(numbers) + login, "none"),
        (len(numbers) + BAD, "none"),
    ]
    marks = [lane.poison(number)[0] for number, _ in sent]
    before = _progress(lane)
    lane.read(b"".join(marks), range(len(sent)), [templates.stamps[stamp] for _, stamp in sent])
    became = _progress(lane) - before
    assert became == Counter(
        {
            fields.CONSUMED: 9,
            fields.COUNTED: 4,
            fields.DUPLICATES: 1,
            fields.dead("not_json"): 3,
            fields.dead("unexpected"): 1,
            fields.UNTIMED: 5,
        }
    )
    assert {(offset, reason) for offset, _, reason in lane.letters(_now_ms(lane))} == {
        (0, "not_json"),
        (3, "unexpected"),
        (4, "not_json"),
        (8, "not_json"),
    }


def _now_ms(lane: Lane) -> int:
    """A little after the run began."""
    return lane.templates.stamps["yesterday"] + 86_400_000 + 600_000


def _progress(lane: Lane) -> Counter[str]:
    wanted: Any = lane.expected(contributions(lane.templates), _now_ms(lane))
    return +Counter(wanted.progress)


def test_a_mark_is_a_header_that_no_specimen_has() -> None:
    assert all(name != MARK for _, one in NATIVE for name, _ in one.headers)
