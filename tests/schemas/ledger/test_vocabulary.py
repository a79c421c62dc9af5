"""Keys, fields and periods: one text per thing, one thing per text."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month, period_end
from schemas.ledger.scopes import EVERYTHING, Scope

names = st.text(min_size=1, max_size=20)
scopes = st.one_of(
    st.just(EVERYTHING),
    st.builds(lambda realm: Scope("realm", (realm,)), names),
    st.builds(lambda realm, client: Scope("client", (realm, client)), st.text(max_size=20), names),
    st.builds(lambda node: Scope("node", (node,)), names),
)


@given(scopes)
def test_a_scope_is_read_back_from_its_text(scope: Scope) -> None:
    assert Scope.parse(scope.text) == scope


@given(scopes, st.integers(0, 15), scopes, st.integers(0, 15))
def test_two_keys_are_equal_only_for_the_same_thing(one: Scope, part: int, other: Scope, other_part: int) -> None:
    shard_keys = ShardKeys("authtally:", Shard("auth.logins", 0))
    assert (shard_keys.users("2026-11", one, part) == shard_keys.users("2026-11", other, other_part)) == (
        (one, part) == (other, other_part)
    )


@given(st.lists(names, min_size=1, max_size=3), st.lists(names, min_size=1, max_size=3))
def test_two_labels_are_equal_only_for_the_same_names(one: list[str], other: list[str]) -> None:
    assert (fields.label("client", *one) == fields.label("client", *other)) == (one == other)
    assert fields.split(fields.label("client", *one)) == ("client", *one)


@given(names, names)
def test_a_count_field_is_split_into_what_it_was_built_from(grant: str, token: str) -> None:
    assert fields.split(fields.token(grant, token)) == ("token", grant, token)
    assert fields.split(fields.failed(grant)) == ("failed", grant)


def test_the_keys_of_a_shard_lie_in_one_slot_and_no_label_moves_them() -> None:
    shard_keys = ShardKeys("authtally:", Shard("auth.logins", 7))
    hostile = Scope("realm", ("}{other",))
    for key in (
        shard_keys.position,
        shard_keys.meta,
        shard_keys.counts("2026-11", hostile),
        shard_keys.small_set("2026-11", hostile, 3),
    ):
        assert key[key.index("{") + 1 : key.index("}")] == "auth.logins-7"


@given(scopes, st.sampled_from(["2026-11", "2026-11-20"]))
def test_a_period_is_read_back_from_the_keys_that_the_index_names(scope: Scope, period: str) -> None:
    shard_keys = ShardKeys("authtally:", Shard("auth.logins", 0))
    for key in (
        shard_keys.counts(period, scope),
        shard_keys.users(period, scope, 3),
        shard_keys.small_set(period, scope, 15),
    ):
        assert shard_keys.period_of(key) == period
    other = ShardKeys("authtally:", Shard("auth.logins", 1))
    for key in (
        shard_keys.clients(period),
        shard_keys.record_times(period),
        shard_keys.ids,
        shard_keys.ids_of(7),
        shard_keys.labels,
        other.counts(period, scope),
    ):
        assert shard_keys.period_of(key) is None
    assert shard_keys.day_written(shard_keys.record_times(period)) == period
    assert shard_keys.day_written(shard_keys.clients(period)) is None


@pytest.mark.parametrize("tag", ["auth.logins-0", "a-b-12"])
def test_a_shard_is_read_back_from_its_tag(tag: str) -> None:
    assert Shard.parse(tag).tag == tag


@pytest.mark.parametrize(
    "text", ["", "20261", "2026111", "202613", "202600", "abcdef", "２０２６１１", " 20261", "+20261"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="month"):
        Month.parse(text)


def test_months_go_round_the_year_and_include_both_ends() -> None:
    assert [month.compact for month in Month.parse("202611").until(Month.parse("202702"))] == [
        "202611",
        "202612",
        "202701",
        "202702",
    ]
    assert Month.parse("202611").until(Month.parse("202611")) == [Month(2026, 11)]
    assert Month.parse("202612").until(Month.parse("202611")) == []


@pytest.mark.parametrize(
    ("period", "zone", "end", "why"),
    [
        ("2026-11-20", "UTC", 1_795_219_200, "plain"),
        ("2026-02", "UTC", 1_772_323_200, "a short month"),
        ("2028-02", "UTC", 1_835_481_600, "a leap year"),
        ("2026-12", "UTC", 1_798_761_600, "the year's end"),
        ("2026-03-29", "Europe/Berlin", 1_774_821_600, "23 hours"),
        ("2026-10-25", "Europe/Berlin", 1_792_969_200, "25 hours"),
        ("2026-11-20", "Asia/Kathmandu", 1_795_198_500, "a quarter past"),
    ],
)
def test_a_period_ends_where_the_next_begins_on_the_wall_clock(period: str, zone: str, end: int, why: str) -> None:
    assert period_end(period, ZoneInfo(zone)) == end, why
