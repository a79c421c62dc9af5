"""What `authtally publish` reads: JSON Lines, arrays, or objects over several lines, of any size, gzip or not.

Elements are cut out of the stream by their brackets and strings alone and never parsed here: what is between the cuts
is the adapter's to judge, so a bad element costs itself and no other. Memory holds one chunk and one element.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import IO, Final, Protocol, cast

CHUNK: Final = 1 << 18
MAX_ELEMENT: Final = 1 << 20
"""Bytes of one element. What auth servers publish is a thousandth of it."""

GZIP: Final = b"\x1f\x8b"
BOM: Final = b"\xef\xbb\xbf"
UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
SPACE: Final = re.compile(rb"[ \t\r\n]*")

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# From anywhere outside a string to the next bracket; with commas, where those separate elements. Possessive: a text
# without an end is given up at once, not tried in every way.
_TO_BRACKET: Final = re.compile(rb'[^"{}\[\]]*+(?:%s[^"{}\[\]]*+)*+([{}\[\]])' % _STRING, re.DOTALL)
_TO_COMMA: Final = re.compile(rb'[^"{}\[\],]*+(?:%s[^"{}\[\],]*+)*+([{}\[\],])' % _STRING, re.DOTALL)
_OPEN: Final = b"{["


class InputError(Exception):
    """Nothing behind this point of the input can be told apart; what came before it stands."""


class Readable(Protocol):
    """`read1` gives what is there already: lines of a pipe are published as they come."""

    def read1(self, size: int = -1, /) -> bytes: ...


class _Counted:
    """A stream that knows how much of it was read, and whose head can be looked at."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._head = b""
        self.read_bytes = 0

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (more := self._next()):
            self._head += more
        return self._head[:size]

    def read1(self, size: int = -1, /) -> bytes:
        if not self._head:
            self._head = self._next()
        end = len(self._head) if size < 0 else size
        taken, self._head = self._head[:end], self._head[end:]
        return taken

    read = read1
    """What gzip calls; it copes with less than it asked for."""

    def _next(self) -> bytes:
        chunk = self._stream.read1(CHUNK)
        self.read_bytes += len(chunk)
        return chunk


class Source:
    """Iterate once: the bytes of each element, in order. `line` and `offset` are those of the latest one."""

    def __init__(self, stream: Readable) -> None:
        counted = _Counted(stream)
        self._counted = counted
        self._plain: Readable = counted
        if counted.peek(len(GZIP)) == GZIP:
            self._plain = gzip.GzipFile(fileobj=cast(IO[bytes], counted), mode="rb")
        self._data = b""
        self._at = 0
        self._ended = False
        self._dropped_bytes = 0
        self._dropped_lines = 0
        self.too_long = False
        """Whether the latest element was longer than MAX_ELEMENT; of such a line only the beginning is given."""
        self._start = 0

    @property
    def read_bytes(self) -> int:
        """Bytes taken from the stream, still compressed if they came so."""
        return self._counted.read_bytes

    @property
    def line(self) -> int:
        """The line that the latest element begins in, from 1."""
        return self._dropped_lines + self._data.count(b"\n", 0, max(0, self._start)) + 1

    @property
    def offset(self) -> int:
        """The byte that the latest element begins at, uncompressed."""
        return self._dropped_bytes + self._start

    def __iter__(self) -> Iterator[bytes]:
        while len(self._data) < len(BOM) and self._fill():
            pass
        if self._data.startswith(UTF_16):
            raise InputError("the input is UTF-16: convert it to UTF-8")
        if self._data.startswith(BOM):
            self._at = len(BOM)
        while self._skip_space():
            if self._data[self._at] == ord("["):
                self._at += 1
                yield from self._array()
            else:
                yield self._line()

    def _fill(self) -> bool:
        """Read more behind what is not used yet; False at the end."""
        if self._ended:
            return False
        try:
            chunk = self._plain.read1(CHUNK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"the gzip stream is broken: {error}") from error
        except OSError as error:
            raise InputError(f"the input cannot be read: {error.strerror}") from error
        if not chunk:
            self._ended = True
            return False
        self._dropped_bytes += self._at
        self._dropped_lines += self._data.count(b"\n", 0, self._at)
        self._data = self._data[self._at :] + chunk
        self._start -= self._at
        self._at = 0
        return True

    def _skip_space(self) -> bool:
        """Move to the next byte that is no space; False at the end."""
        while True:
            found = SPACE.match(self._data, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._data):
                self._start = self._at
                self.too_long = False
                return True
            if not self._fill():
                return False

    def _line(self) -> bytes:
        """One line; or, of an object that a printer has spread over lines, all of them."""
        searched = 0
        while (end := self._data.find(b"\n", self._at + searched)) < 0:
            searched = len(self._data) - self._at
            if searched > MAX_ELEMENT:
                return self._long_line()
            if not self._fill():
                end = len(self._data)
                break
        if end - self._at > MAX_ELEMENT:
            return self._long_line()
        line = self._data[self._at : end].rstrip()
        # Only a line of a single brace: what else does not end in its line was cut off, and must not take others along.
        if line == b"{":
            return self._object()
        self._at = end
        return line

    def _long_line(self) -> bytes:
        beginning = self._data[self._at : self._at + MAX_ELEMENT]
        while (end := self._data.find(b"\n", self._at)) < 0:
            self._at = len(self._data)
            if not self._fill():
                end = len(self._data)
                break
        self._at = end
        self.too_long = True
        return beginning

    def _object(self) -> bytes:
        depth, scanned = 0, 0
        while True:
            found = _TO_BRACKET.match(self._data, self._at + scanned)
            if found is None:
                if not self._fill_or_fail("object"):
                    rest = self._data[self._at :].rstrip()
                    self._at = len(self._data)
                    return rest
                continue
            scanned = found.end() - self._at
            depth += 1 if found[1] in _OPEN else -1
            if depth == 0:
                element = self._data[self._at : found.end()]
                self._at = found.end()
                return element

    def _array(self) -> Iterator[bytes]:
        """The elements of an array whose opening bracket is behind us, up to its closing one."""
        opened = self._dropped_bytes + self._at - 1
        while self._skip_space():
            if self._data[self._at] == ord("]"):
                self._at += 1
                return
            depth, scanned = 0, 0
            while True:
                pattern = _TO_BRACKET if depth else _TO_COMMA
                found = pattern.match(self._data, self._at + scanned)
                if found is None:
                    if not self._fill_or_fail("array element"):
                        raise self._truncated_error(opened)
                    continue
                scanned, what = found.end() - self._at, found[1]
                if what in _OPEN:
                    depth += 1
                elif depth == 0 and what != b"}":
                    break
                elif depth:
                    depth -= 1
            end = self._at + scanned - 1
            element = self._data[self._at : end].rstrip()
            self._at = end if what == b"]" else end + 1
            yield element
        raise self._truncated_error(opened)

    def _fill_or_fail(self, what: str) -> bool:
        if len(self._data) - self._at > MAX_ELEMENT:
            raise InputError(
                f"the {what} at line {self.line}, byte {self.offset}, has no end within {MAX_ELEMENT} bytes"
            )
        return self._fill()

    def _truncated_error(self, opened: int) -> InputError:
        return InputError(f"the array that begins at byte {opened} is cut off: it has no closing bracket")
