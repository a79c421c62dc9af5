"""Elements are cut out of any input as they were written, however it arrives, and a bad one costs itself alone."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli.publish import source as publish_source
from deploy.cli.publish.source import MAX_ELEMENT, InputError, Source
from schemas.adapters.janssen_audit import LOG_PREFIX


class Drips:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def read1(self, size: int = -1, /) -> bytes:
        return self._data.read(self._size)


CASES = [
    pytest.param(b"", [], id="nothing"),
    pytest.param(b" \n\r\n\t", [], id="space"),
    pytest.param(b"[]", [], id="an empty array"),
    pytest.param(b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}'], id="lines"),
    pytest.param(b'{"a":1}\r\n\r\n{"b":2}', [b'{"a":1}', b'{"b":2}'], id="lines of another system, the last one open"),
    pytest.param(b'\xef\xbb\xbf{"a":1}', [b'{"a":1}'], id="a byte order mark"),
    pytest.param(b'{"a":1\n{"b":2}\n', [b'{"a":1', b'{"b":2}'], id="a line that was cut off takes no other along"),
    pytest.param(b'{"a":"\n{"b":2}\n', [b'{"a":"', b'{"b":2}'], id="nor does one cut off in a string"),
    pytest.param(b'{\n  "a": {\n  }\n}\n{\n}', [b'{\n  "a": {\n  }\n}', b"{\n}"], id="objects over several lines"),
    pytest.param(b'{\n "a": 1', [b'{\n "a": 1'], id="the last one cut off"),
    pytest.param(b'[{"a":[1,2]} , {"b":"],["}]', [b'{"a":[1,2]}', b'{"b":"],["}'], id="an array"),
    pytest.param(b'[1,"a,\\"]",null,[2,[3]]]', [b"1", b'"a,\\"]"', b"null", b"[2,[3]]"], id="of anything"),
    pytest.param(b'["\\\\",{"\\"":"{"}]', [b'"\\\\"', b'{"\\"":"{"}'], id="with escaped quotes"),
    pytest.param(b"[{a:1},{}}, {]]", [b"{a:1}", b"{}}", b"{]"], id="whose elements are not JSON"),
    pytest.param(b"[1,,2,]", [b"1", b"", b"2"], id="with a hole"),
    pytest.param(b"[1][2]\n[3]\n4\n[\n]", [b"1", b"2", b"3", b"4"], id="one array after the other"),
    pytest.param('["ä,€",\n{"ü":"😀"}]'.encode(), ['"ä,€"'.encode(), '{"ü":"😀"}'.encode()], id="beyond ASCII"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
@pytest.mark.parametrize(("data", "elements"), CASES)
def test_elements_come_as_they_were_written(data: bytes, elements: list[bytes], size: int) -> None:
    assert list(Source(Drips(data, size))) == elements
    assert list(Source(Drips(gzip.compress(data), size))) == elements


BROKEN = [
    pytest.param(b'[{"a":1},{"b":2}', 1, "the array that begins at byte 0 is truncated", id="no closing bracket"),
    pytest.param(b'1\n[{"a":1},{"b":"', 2, "the array that begins at byte 2 is truncated", id="cut off in a string"),
    pytest.param(b"[", 0, "the array that begins at byte 0 is truncated", id="cut off at once"),
    pytest.param(b'[1,"' + b"a" * 2 * MAX_ELEMENT, 1, "line 1, byte 3, has no end", id="an endless string"),
    pytest.param(b"{\n" + b"{" * 2 * MAX_ELEMENT, 0, "line 1, byte 0, has no end", id="an endless object"),
    pytest.param(gzip.compress(b"1\n2\n")[:-4], 2, "gzip stream is broken", id="gzip cut off"),
    pytest.param(b"\x1f\x8bnot gzip at all", 0, "gzip stream is broken", id="not gzip"),
    pytest.param("1\n2".encode("utf-16"), 0, "UTF-16", id="UTF-16"),
]


@pytest.mark.parametrize(("data", "before", "why"), BROKEN)
def test_an_unreadable_border_ends_the_input(data: bytes, before: int, why: str) -> None:
    elements = iter(Source(io.BytesIO(data)))
    for _ in range(before):
        next(elements)
    with pytest.raises(InputError, match=why):
        next(elements)


def test_several_gzip_members_are_one_input() -> None:
    assert list(Source(io.BytesIO(gzip.compress(b"1\n") + gzip.compress(b"2\n") + b"\0" * 10))) == [b"1", b"2"]


def test_a_line_too_long_is_passed_by() -> None:
    source = Source(io.BytesIO(b"1\n" + b"x" * (3 * MAX_ELEMENT) + b"\n2\n"))
    found = [(len(element), source.too_long, source.line) for element in source]
    assert found == [(1, False, 1), (MAX_ELEMENT, True, 2), (1, False, 3)]


def test_an_element_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_source, "CHUNK", 16)
    data = b'{"a":1}\n\n[\n1,\n  {"b":\n2}]\n"c"'
    source = Source(io.BytesIO(data))
    found = [(source.line, source.offset, element) for element in source]
    assert found == [(1, 0, b'{"a":1}'), (4, 11, b"1"), (5, 16, b'{"b":\n2}'), (7, 26, b'"c"')]
    assert all(data[offset:].startswith(element) for _, offset, element in found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(JSON), st.booleans(), st.integers(1, 50))
def test_whatever_json_writes_is_cut_back_into_it(values: list[Any], ascii_only: bool, size: int) -> None:
    written = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    array = Source(Drips(f"[{', '.join(written)}]".encode(errors="replace"), size))
    assert list(array) == [text.encode(errors="replace") for text in written]
    # A line that begins with a bracket is an array, and its elements come one by one.
    lines = [{"of": value} for value in values]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    assert [json.loads(element) for element in Source(Drips(data, size))] == lines


def test_memory_does_not_grow_with_the_input() -> None:
    element = json.dumps({"user_id": "ada", "details": {"text": "x" * 200}}).encode()

    class Endless:
        def __init__(self) -> None:
            self._chunks = self._made()

        def _made(self) -> Iterator[bytes]:
            yield b"["
            for _ in range(100):
                yield b",".join([element] * 200) + b","
            yield element + b"]"

        def read1(self, size: int = -1, /) -> bytes:
            return next(self._chunks, b"")

    tracemalloc.start()
    count = sum(1 for _ in Source(Endless()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_001
    assert peak < 2 << 20


ENTRY = b"2026-01-01 00:00:00,123 INFO  [qtp1-17] [x] (X.java:1) - "
MESSAGE = b'{\n  "a" : {\n    "b" : "}"\n  }\n}'


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_entries_of_a_log_are_their_messages(size: int) -> None:
    cut = MESSAGE[:12]
    log = b"".join(ENTRY + message + b"\n" for message in (MESSAGE, b"{}", cut, MESSAGE, b'{"c":1}', cut))
    found = list(Source(Drips(log, size), LOG_PREFIX))
    assert found == [MESSAGE, b"{}", cut.rstrip(), MESSAGE, b'{"c":1}', cut.rstrip()]


def test_a_message_without_an_end_costs_one_element_of_bounded_size() -> None:
    endless = ENTRY + b"{\n" + b"  x\n" * (MAX_ELEMENT // 2) + ENTRY + MESSAGE
    source = Source(Drips(endless, 1 << 16), LOG_PREFIX)
    first = next(iter(source))
    assert len(first) <= MAX_ELEMENT
