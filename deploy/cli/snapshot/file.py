"""A snapshot as a file: frames behind a heading, each compressed, each bound to all that came before by a checksum.

    heading   MAGIC, version of the format (2 bytes)
    frame     kind (1 byte), length of the payload (4 bytes), payload (zlib), BLAKE2b of 128 bits over the checksum
              before, kind, length and payload; the first goes on from the heading. Numbers are little-endian.

One HEADER; per section a BEGIN, any number of KEYS, an END; last CONTENTS, behind which nothing may follow. So a byte
that changed, a frame that is missing, moved or of another file, and an end that was cut off are all found.
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
"""Neither a payload nor what it unpacks to is ever longer."""
FLUSH_BYTES: Final = 1 << 20
LEVEL: Final = 3
"""Of zlib: dense sketches hardly shrink, and higher levels cost several times as much for a few percent."""

HEADER: Final = b"H"
BEGIN: Final = b"B"
KEYS: Final = b"K"
END: Final = b"E"
CONTENTS: Final = b"Z"

GONE: Final = "none"
"""The kind of an entry that takes back what was said of its key before; Redis's own word for no key."""


class SnapshotError(Exception):
    """The file cannot be used; says which and why."""


class Entry(NamedTuple):
    """A key, or a piece of one. A later entry of the same key replaces the earlier ones, unless it is `more` of it."""

    name: bytes
    """Without what all keys of its section begin with."""
    kind: str
    """As TYPE names it."""
    expires_ms: int
    """Unix milliseconds; below 0: never."""
    more: bool
    value: Any
    """Bytes, or a flat list of bytes: members; fields and values; members and scores."""

    @property
    def weight(self) -> int:
        """Roughly its bytes."""
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
    """Writes a snapshot beside its place, and moves it there when it is whole: a killed run leaves no half of one."""

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
        # Digests of users and names of realms are nobody else's business.
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
        """Forget what was written since."""
        self._entries, self._weight = [], 0
        self._file.flush()
        self._file.seek(mark.at)
        self._file.truncate()
        self._digest = mark.digest

    def done(self, contents: dict[str, Any]) -> int:
        """Close the file, on disk before it gets its name; its size."""
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
    """Every frame, each checked before it is given; the last is CONTENTS. Raises SnapshotError."""
    try:
        with path.open("rb") as file:
            yield from _frames(path, file)
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error


def _frames(path: Path, file: IO[bytes]) -> Iterator[Frame]:
    heading = file.read(len(MAGIC) + 2)
    if heading[: len(MAGIC)] != MAGIC or len(heading) < len(MAGIC) + 2:
        raise SnapshotError(f"{path}: is no snapshot of authtally")
    version = int.from_bytes(heading[len(MAGIC) :], "little")
    if version != VERSION:
        raise SnapshotError(f"{path}: has version {version} of the format, this version of authtally reads {VERSION}")
    digest = _digest(b"", heading)
    while True:
        at = file.tell()
        head = file.read(5)
        length = int.from_bytes(head[1:], "little")
        packed = file.read(min(length, MAX_FRAME))
        held = file.read(DIGEST_BYTES)
        if len(head) < 5 or len(packed) < min(length, MAX_FRAME) or len(held) < DIGEST_BYTES:
            raise SnapshotError(f"{path}: is cut off at byte {at + len(head) + len(packed) + len(held)}, or damaged")
        digest = _digest(digest, head, packed)
        if held != digest:
            raise SnapshotError(f"{path}: wrong checksum behind byte {at}: the file is damaged")
        frame = Frame(head[:1], _unpacked(path, at, packed))
        if frame.kind == CONTENTS and file.read(1):
            raise SnapshotError(f"{path}: goes on behind its end, byte {file.tell() - 1}")
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
        raise SnapshotError(f"{path}: byte {at}: a frame of more than {MAX_FRAME >> 20} MB")
    return payload


def _digest(before: bytes, *parts: bytes) -> bytes:
    state = hashlib.blake2b(before, digest_size=DIGEST_BYTES, person=b"authtally-snap")
    for part in parts:
        state.update(part)
    return state.digest()


class Contents(NamedTuple):
    """What a whole, undamaged file says of itself."""

    header: dict[str, Any]
    shards: list[dict[str, Any]]
    """As their END frames tell them, in the file's order."""
    id: str
    """Of this very file: no other has it."""
    size: int
    unpacked: int
    """Bytes of all payloads."""


def contents(path: Path, on_progress: Callable[[int], None] = lambda _: None) -> Contents:
    """Read and check the whole file; `told` learns bytes as they are read. Raises SnapshotError."""
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
