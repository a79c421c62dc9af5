"""Records of one element and of many."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.adapters.framing import MAX_ELEMENTS
from schemas.adapters.registry import ADAPTERS
from tests.schemas.adapters.cases import AT_TEXT, RECORD, elements

LOGIN = json.dumps({"type": "login", "time": AT_TEXT, "user_id": "alice"}).encode()
BAD = b'{"type": "login"}'
GARBAGE = b"{oops"
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("record", "kinds", "why"),
    [
        (LOGIN, ["good"], "one object"),
        (b"[]", [], "none"),
        (b" [ " + LOGIN + b" ]\n", ["good"], "an array of one"),
        (b"[" + LOGIN + b"," + BAD + b",null,[],7," + LOGIN + b"]", ["good", *["bad"] * 4, "good"], "the bad alone"),
        (LOGIN + b"\n" + LOGIN, ["good", "good"], "lines"),
        (BAD + b"\n" + LOGIN + b"\n", ["bad", "good"], "the first line may be the bad one"),
        (GARBAGE + b"\r\n\r\n" + LOGIN, ["bad", "good"], "and no JSON at all"),
        (LOGIN + b"\n" + b"\xff", ["good", "bad"], "or no UTF-8"),
        (LOGIN + b" " + LOGIN, ["bad"], "two on one line are neither"),
        (BOM + LOGIN, ["good"], "a byte order mark"),
        (BOM + b"[" + LOGIN + b"," + BAD + b"]", ["good", "bad"], "before an array"),
        (BOM + LOGIN + b"\n" + LOGIN, ["good", "good"], "before lines"),
        (BOM + json.dumps(json.loads(LOGIN), indent=2).encode(), ["good"], "before a pretty printed one"),
        (BOM, ["bad"], "before nothing"),
        (BOM + BOM + LOGIN, ["bad"], "twice"),
        (BOM * 1000, ["bad"], "deeper than the stack"),
        (json.dumps(json.loads(LOGIN), indent=2).encode(), ["good"], "pretty printed"),
        (json.dumps(json.loads(BAD), indent=2).encode(), ["bad"], "pretty printed"),
        (b"{\n" + GARBAGE, ["bad"], "pretty printed, and cut"),
        (b"[\n" + LOGIN + b",\n" + LOGIN, ["bad"], "an array that was cut is one bad record"),
        (b"[" * 100_000, ["bad"], "deeper than the stack"),
        (b'{"a":' * 100_000, ["bad"], "deeper than the stack"),
        (LOGIN + b"\n" + b"[" * 100_000, ["good", "bad"], "one of them deeper than the stack"),
        (b"[" + b",".join([BAD] * MAX_ELEMENTS) + b"]", ["bad"] * MAX_ELEMENTS, "as many as a record may have"),
        (b"[" + b",".join([b"0"] * (MAX_ELEMENTS + 1)) + b"]", ["bad"], "too many"),
        (b"\n".join([b"{}"] * (MAX_ELEMENTS + 1)), ["bad"], "too many"),
    ],
)
def test_a_record_has_as_many_elements_as_it_contains(record: bytes, kinds: list[str], why: str) -> None:
    found = elements("native", record)
    assert [one.index for one in found] == list(range(len(kinds)))
    assert ["bad" if one.bad else "good" for one in found] == kinds, why


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("record", [BOM + b"7", BOM + LOGIN, BOM + b"{oops", BOM + b"[", BOM], ids=repr)
def test_a_dead_letter_of_a_whole_record_holds_it_unchanged(name: str, record: bytes) -> None:
    (one,) = elements(name, record)
    assert one.raw == record


def test_too_many_elements_are_refused_by_their_limit() -> None:
    (one,) = elements("native", b"[" + b"0," * MAX_ELEMENTS + b"0]")
    assert one.bad is not None
    assert (one.bad.reason, str(MAX_ELEMENTS) in one.bad.detail) == ("too_long", True)


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.lists(anything, max_size=8))
def test_the_raw_of_an_arrays_element_is_that_element(records: list[Any]) -> None:
    value = msgspec.json.encode(records)
    for adapt in ADAPTERS.values():
        found = adapt(value, (), RECORD)
        assert [one.index for one in found] == list(range(len(records)))
        for one, record in zip(found, records, strict=True):
            assert one.raw is not None
            assert json.loads(one.raw) == json.loads(msgspec.json.encode(record))


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(), anything, max_size=3), min_size=2, max_size=8))
def test_a_line_is_an_element_as_it_stands(records: list[Any]) -> None:
    value = b"\n".join(msgspec.json.encode(record) for record in records)
    for adapt in ADAPTERS.values():
        found = adapt(value, (), RECORD)
        assert b"\n".join(one.raw or b"" for one in found) == value
