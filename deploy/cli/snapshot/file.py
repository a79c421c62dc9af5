"""The file format of a snapshot: a heading and compressed frames, each with a checksum over everything before it.

    heading   MAGIC, version of the format (2 bytes)
    frame     kind (1 byte), length of the payload (4 bytes), payload (zlib), checksum: BLAKE2b of 128 bits over the
              checksum before (that of the heading for the first frame), kind, length and payload. Numbers are
              little-endian.

The frames are one HEADER; per section a BEGIN, any number of KEYS and an END; last CONTENTS, which ends the file. The
checksums reveal changed bytes, frames that are missing, moved or of another file, and a truncated end.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NamedTuple, Self

import msgspec

MAGIC: Final = b"authtally snapshot\n"
VERSION: Final = 1
DIGEST_BYTES: Final = 16
MAX_FRAME: Final = 64 << 20
"""Upper limit of a payload, compressed and uncompressed."""
FLUSH_BYTES: Final = 1 << 20
LEVEL: Final = 3
"""Level of zlib: dense sketches hardly shrink, and higher levels cost several times as much for a few percent."""

HEADER: Final = b"H"
BEGIN: Final = b"B"
KEYS: Final = b"K"
END: Final = b"E"
CONTENTS: Final = b"Z"

GONE: Final = "none"
"""The kind of an entry that cancels earlier entries of its key; TYPE returns this word if there is no key."""


class SnapshotError(Exception):
    """The file cannot be used; the text names the file and the reason."""


class Entry(NamedTuple):
    """A key or a piece of one. A later entry of the same key replaces earlier ones, unless `more` appends to them."""

    name: bytes
    """The key without the common prefix of its section."""
    kind: str
    """The type, as TYPE returns it."""
    expires_ms: int
    """Unix milliseconds; negative for no expiry."""
    more: bool
    value: Any
    """Bytes, or a flat list of bytes: members; fields and values; members and scores."""

    @property
    def weight(self) -> int:
        """Approximate size in bytes."""
        if isinstance(self.value, list):
            return len(self.name) + sum(map(len, self.value)) + 8 * len(self.value)
        return len(self.name) + len(self.value or b"")


class Frame(NamedTuple):
    kind: bytes
    payload: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.payload)
        return found

    @property
    def entries(self) -> Iterator[Entry]:
        for item in msgspec.msgpack.decode(self.payload):
            yield Entry(*item)


class Mark(NamedTuple):
    at: int
    digest: bytes


class Writer:
    """Writes to a temporary file and renames it when it is complete, so a killed run leaves no partial snapshot."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._aside = path.with_name(path.name + ".part")
        self._file: IO[bytes]
        self._digest = b""
        self._entries: list[Entry] = []
        self._weight = 0
        self.keys = 0

    def __enter__(self) -> Self:
        with suppress(FileNotFoundError):
            self._aside.unlink()
        # Only the owner may read it: it contains digests of users and names of realms.
        descriptor = os.open(self._aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        heading = MAGIC + VERSION.to_bytes(2, "little")
        self._file.write(heading)
        self._digest = _digest(b"", heading)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self._file.close()
            with suppress(FileNotFoundError):
                self._aside.unlink()

    def write_document(self, kind: bytes, document: dict[str, Any]) -> None:
        self.flush()
        self._frame(kind, msgspec.json.encode(document, order="sorted"))

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._weight += entry.weight
        self.keys += not entry.more
        if self._weight >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._entries:
            self._frame(KEYS, msgspec.msgpack.encode(self._entries))
            self._entries, self._weight = [], 0

    def mark(self) -> Mark:
        self.flush()
        return Mark(self._file.tell(), self._digest)

    def rewind(self, mark: Mark) -> None:
        """Discard everything that was written after the mark."""
        self._entries, self._weight = [], 0
        self._file.flush()
        self._file.seek(mark.at)
        self._file.truncate()
        self._digest = mark.digest

    def done(self, contents: dict[str, Any]) -> int:
        """Write the contents, flush to disk, then rename the file; returns its size."""
        self.write_document(CONTENTS, contents)
        self._file.flush()
        size = self._file.tell()
        os.fsync(self._file.fileno())
        self._file.close()
        self._aside.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size

    def _frame(self, kind: bytes, payload: bytes) -> None:
        packed = zlib.compress(payload, LEVEL)
        head = kind + len(packed).to_bytes(4, "little")
        self._digest = _digest(self._digest, head, packed)
        self._file.write(head + packed + self._digest)


def frames(path: Path) -> Iterator[Frame]:
    """Every frame, checked before it is yielded; the last is CONTENTS. Raises SnapshotError."""
    try:
        with path.open("rb") as file:
            yield from _frames(path, file)
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error


def _frames(path: Path, file: IO[bytes]) -> Iterator[Frame]:
    heading = file.read(len(MAGIC) + 2)
    if heading[: len(MAGIC)] != MAGIC or len(heading) < len(MAGIC) + 2:
        raise SnapshotError(f"{path}: is not a snapshot of authtally")
    version = int.from_bytes(heading[len(MAGIC) :], "little")
    if version != VERSION:
        raise SnapshotError(f"{path}: has file format {version}, this version of authtally reads {VERSION}")
    digest = _digest(b"", heading)
    while True:
        at = file.tell()
        head = file.read(5)
        length = int.from_bytes(head[1:], "little")
        packed = file.read(min(length, MAX_FRAME))
        held = file.read(DIGEST_BYTES)
        if len(head) < 5 or len(packed) < min(length, MAX_FRAME) or len(held) < DIGEST_BYTES:
            raise SnapshotError(f"{path}: is truncated at byte {at + len(head) + len(packed) + len(held)}, or damaged")
        digest = _digest(digest, head, packed)
        if held != digest:
            raise SnapshotError(f"{path}: wrong checksum after byte {at}: the file is damaged")
        frame = Frame(head[:1], _unpacked(path, at, packed))
        if frame.kind == CONTENTS and file.read(1):
            raise SnapshotError(f"{path}: continues after its end, byte {file.tell() - 1}")
        yield frame
        if frame.kind == CONTENTS:
            return


def _unpacked(path: Path, at: int, packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        payload = unpacking.decompress(packed, MAX_FRAME)
    except zlib.error as error:
        raise SnapshotError(f"{path}: byte {at}: {error}") from error
    if not unpacking.eof:
        raise SnapshotError(f"{path}: byte {at}: the frame is larger than {MAX_FRAME >> 20} MB")
    return payload


def _digest(before: bytes, *parts: bytes) -> bytes:
    state = hashlib.blake2b(before, digest_size=DIGEST_BYTES, person=b"authtally-snap")
    for part in parts:
        state.update(part)
    return state.digest()


def sections(path: Path, on_progress: Callable[[str, int], None]) -> Iterator[tuple[str, Iterator[Entry]]]:
    """Each section's name and entries; read the entries before the next section. Raises SnapshotError.

    `on_progress` gets the section and the bytes of each payload.
    """
    found = frames(path)

    def entries(section: str) -> Iterator[Entry]:
        for frame in found:
            on_progress(section, len(frame.payload))
            if frame.kind == END:
                return
            yield from frame.entries

    for frame in found:
        if frame.kind == BEGIN:
            section = str(frame.document["section"])
            yield section, entries(section)


def entries_of(path: Path, section: str) -> Iterator[Entry]:
    """The entries of one section. Raises SnapshotError."""
    for name, entries in sections(path, lambda *_: None):
        if name == section:
            yield from entries
            return
        for _ in entries:
            pass


class Contents(NamedTuple):
    """The contents of a complete, undamaged file."""

    header: dict[str, Any]
    shards: list[dict[str, Any]]
    """The documents of the END frames, in the file's order."""
    id: str
    """Unique id of this file."""
    size: int
    unpacked: int
    """Bytes of all payloads, uncompressed."""


def contents(path: Path, on_progress: Callable[[int], None] = lambda _: None) -> Contents:
    """Read and check the whole file; `on_progress` gets the bytes of each payload. Raises SnapshotError."""
    header: dict[str, Any] = {}
    last: dict[str, Any] = {}
    unpacked = 0
    for frame in frames(path):
        if frame.kind == HEADER:
            header = frame.document
        elif frame.kind == CONTENTS:
            last = frame.document
        unpacked += len(frame.payload)
        on_progress(len(frame.payload))
    return Contents(header, last["shards"], header["id"], path.stat().st_size, unpacked)
