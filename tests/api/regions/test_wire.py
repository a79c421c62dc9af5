"""Answers of peers, whatever they are, decode or are refused; and every read of Statistics has its regional form."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.statistics import Statistics
from api.regions import wire
from api.regions.regional import RegionalStatistics
from api.regions.wire import Export, ExportRequest, UnionExport
from api.regions.wire_parts import InvalidAnswerError, read_scope
from tests.api.dialects.own.examples import FILE

OF_THE_OWN_LEDGER = {"shards", "read_counts", "run", "ledger_id", "held_periods"}
"""Methods by which the own region is exported, or that others here are made of."""


def public(of: type) -> set[str]:
    return {name for name in vars(of) if not name.startswith("_") and callable(getattr(of, name))}


def test_every_read_has_its_regional_form() -> None:
    """What a question may ask of one ledger it may ask of several, and what is made of other reads is so in both."""
    assert not LedgerStatistics.__abstractmethods__ | RegionalStatistics.__abstractmethods__
    assert public(LedgerStatistics) - public(Statistics) == OF_THE_OWN_LEDGER
    composed = public(Statistics) - Statistics.__abstractmethods__
    assert composed
    assert not composed & {*vars(LedgerStatistics), *vars(RegionalStatistics)}


EXAMPLE: dict[str, Any] = json.loads(FILE.read_bytes())["region_export"]
REQUEST = msgspec.convert(EXAMPLE["body"], ExportRequest)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in items:
        found += paths(each, (*path, name))
    return found


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(paths(EXAMPLE["answer"])[1:]), ANYTHING)
def test_a_changed_answer_decodes_or_is_refused(path: tuple[Any, ...], value: Any) -> None:
    document = json.loads(json.dumps(EXAMPLE["answer"]))
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    try:
        export = wire.read_export(json.dumps(document).encode(), REQUEST)
    except InvalidAnswerError:
        return
    assert isinstance(export, Export)
    assert all(0 <= union.united <= union.count for union in export.unions)


@given(st.binary(max_size=64))
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        wire.read_export(body, REQUEST)
    with pytest.raises(InvalidAnswerError):
        wire.read_identity(body)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        (("login",), "login"),
        (("failed", "a/b c"), "failed/a%2Fb%20c"),
        (("token", "urn:x", "id_token"), "token/urn:x/id_token"),
        (("account", "signup"), "account/signup"),
    ],
)
def test_a_counter_has_one_spelling(parts: tuple[str, ...], field: str) -> None:
    assert wire.encode_counter(parts) == field
    assert wire.decode_counter(field) == parts


@pytest.mark.parametrize(
    "text", ["", "all/x", "realm", "realm/a/b", "client/a", "node/%41", "users/a", f"realm/{'r' * 300}"]
)
def test_other_texts_are_no_scope(text: str) -> None:
    with pytest.raises(InvalidAnswerError):
        read_scope(text)


def dense(*registers: int) -> bytes:
    """A dense sketch with these registers, and 0 for the others."""
    return (
        b"HYLL\0" + bytes(11) + sum(value << (6 * at) for at, value in enumerate(registers)).to_bytes(12_288, "little")
    )


def sent(sketch: bytes) -> Export:
    export = wire.read_export(json.dumps(EXAMPLE["answer"]).encode(), REQUEST)
    union = UnionExport(count=1, standard_error=0.0, united=1, sketches=[sketch], version="v")
    return msgspec.structs.replace(export, unions=[union])


@pytest.mark.parametrize("value", [52, 55, 56, 59, 60, 63])
async def test_registers_that_no_hash_gives_are_refused(value: int) -> None:
    await wire.check_sketches(sent(dense(0, 51, 47, 35)))
    with pytest.raises(InvalidAnswerError):
        await wire.check_sketches(sent(dense(*[0] * 16_383, value)))
