"""A snapshot's file is read as it was written, or not at all."""

from __future__ import annotations

import stat
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli.snapshot import file as snapshot_file
from deploy.cli.snapshot.file import BEGIN, END, HEADER, KEYS, Entry, SnapshotError, Writer, contents, frames

ENTRIES = [
    Entry(b"position", "string", -1, False, b"7"),
    Entry(b"counts:2026-11:all", "hash", 1_900_000_000_000, False, [b"login", b"3", b"failed/locked", b"1"]),
    Entry(b"small:2026-11:all:3", "set", -1, False, [b"-12", b"99"]),
    Entry(b"index", "zset", -1, False, [b"2026-11", b"inf"]),
    Entry(b"users:2026-11:all:0", "string", -1, False, b"HYLL" + bytes(range(256))),
    Entry(b"users:2026-11:all:0", "string", -1, True, bytes(range(256))),
    Entry(b"labels", "none", -1, False, b""),
]


def write(path: Path, entries: list[Entry] = ENTRIES) -> Path:
    with Writer(path) as into:
        into.write_document(HEADER, {"id": "one", "began": "2026-11-20T03:15:00+00:00"})
        into.write_document(BEGIN, {"section": "auth.logins-0"})
        for entry in entries:
            into.add(entry)
        into.write_document(END, {"section": "auth.logins-0"})
        into.done({"shards": [{"section": "auth.logins-0", "position": 7}]})
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "ledger.snapshot").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "ledger.snapshot")
    read = [entry for frame in frames(path) if frame.kind == KEYS for entry in frame.entries]
    assert read == ENTRIES
    held = contents(path)
    assert (held.id, held.size) == ("one", path.stat().st_size)
    assert held.shards == [{"section": "auth.logins-0", "position": 7}]


def test_it_is_for_its_owner_alone_and_complete_or_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "ledger.snapshot")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()

    def fail() -> None:
        with Writer(path) as into:
            into.write_document(HEADER, {"id": "two"})
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.snapshot"]
    assert path.read_bytes() == before


def test_what_is_rewound_is_not_in_the_file(tmp_path: Path) -> None:
    path, other = tmp_path / "one.snapshot", tmp_path / "other.snapshot"
    with Writer(path) as into:
        into.write_document(HEADER, {"id": "one", "began": "2026-11-20T03:15:00+00:00"})
        mark = into.mark()
        into.write_document(BEGIN, {"section": "cut off"})
        into.add(ENTRIES[0])
        into.rewind(mark)
        into.done({"shards": []})
    with Writer(other) as into:
        into.write_document(HEADER, {"id": "one", "began": "2026-11-20T03:15:00+00:00"})
        into.done({"shards": []})
    assert path.read_bytes() == other.read_bytes()


@given(data=st.data())
def test_a_byte_that_changed_is_found(whole: bytes, folder: Path, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1), "at")
    flip = data.draw(st.integers(1, 255), "flip")
    refused(folder, whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])


def test_every_single_bit_is_held(whole: bytes, folder: Path) -> None:
    for at in range(len(whole)):
        refused(folder, whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])


def test_every_end_that_was_cut_off_is_found(whole: bytes, folder: Path) -> None:
    for length in range(len(whole)):
        refused(folder, whole[:length])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        pytest.param(lambda it: b"", "is not a snapshot of authtally", id="empty"),
        pytest.param(lambda it: b"PK" + it[2:], "is not a snapshot of authtally", id="another file"),
        pytest.param(lambda it: it[:19] + b"\x02" + it[20:], "has file format 2", id="another version"),
        pytest.param(lambda it: it + b"\n", "continues after its end", id="something behind"),
        pytest.param(lambda it: it + it, "continues after its end", id="twice"),
        pytest.param(lambda it: it[:-1], "is truncated at byte", id="cut off"),
        pytest.param(lambda it: it[:200] + b"?" + it[201:], "wrong checksum after byte", id="changed"),
    ],
)
def test_a_damaged_file_is_refused_by_name(whole: bytes, folder: Path, damage: object, why: str) -> None:
    assert callable(damage)
    assert why in refused(folder, damage(whole))


def test_a_frame_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "ledger.snapshot", [Entry(b"big", "string", -1, False, bytes(100_000))])
    assert path.stat().st_size < len(zlib.compress(bytes(100_000))) + 1_000
    monkeypatch.setattr(snapshot_file, "MAX_FRAME", 50_000)
    with pytest.raises(SnapshotError, match="the frame is larger than"):
        contents(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"none\.snapshot: No such file"):
        contents(tmp_path / "none.snapshot")


def refused(folder: Path, damaged: bytes) -> str:
    """Why it is."""
    path = folder / "damaged.snapshot"
    path.write_bytes(damaged)
    with pytest.raises(SnapshotError) as error:
        contents(path)
    assert str(path) in str(error.value)
    return str(error.value)
