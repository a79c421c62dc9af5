"""The input of `authtally publish`: JSON Lines, arrays or multi-line objects of any size, gzipped or not.

The stream is split into elements by brackets and strings only. The adapter parses each element, so a bad one does not
affect others. Memory contains one chunk and one element.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import IO, Final, Protocol, cast

CHUNK: Final = 1 << 18
MAX_ELEMENT: Final = 1 << 20
"""Largest element in bytes. Events of auth servers are a thousandth of it."""

GZIP: Final = b"\x1f\x8b"
BOM: Final = b"\xef\xbb\xbf"
UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
SPACE: Final = re.compile(rb"[ \t\r\n]*")

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# From a position outside a string to the next bracket, or to the next bracket or comma. Possessive quantifiers make a
# text without an end fail at once instead of backtracking.
_TO_BRACKET: Final = re.compile(rb'[^"{}\[\]]*+(?:%s[^"{}\[\]]*+)*+([{}\[\]])' % _STRING, re.DOTALL)
_TO_COMMA: Final = re.compile(rb'[^"{}\[\],]*+(?:%s[^"{}\[\],]*+)*+([{}\[\],])' % _STRING, re.DOTALL)
_OPEN: Final = b"{["


class InputError(Exception):
    """The input cannot be split into elements after this point; earlier elements are valid."""


class Readable(Protocol):
    """`read1` returns the available bytes, so lines of a pipe are published as they arrive."""

    def read1(self, size: int = -1, /) -> bytes: ...


class _Counted:
    """A stream that counts the bytes read and can return its beginning without consuming it."""

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
    """gzip calls `read`; it accepts fewer bytes than it asked for."""

    def _next(self) -> bytes:
        chunk = self._stream.read1(CHUNK)
        self.read_bytes += len(chunk)
        return chunk


class Source:
    """Iterates once over the bytes of each element, in order. `line` and `offset` belong to the latest one."""

    def __init__(self, stream: Readable, entry: re.Pattern[bytes] | None = None) -> None:
        """`entry` matches the prefix of a log entry whose message is an object, possibly of several lines."""
        counted = _Counted(stream)
        self._counted = counted
        self._plain: Readable = counted
        self._entry = entry
        if counted.peek(len(GZIP)) == GZIP:
            self._plain = gzip.GzipFile(fileobj=cast(IO[bytes], counted), mode="rb")
        self._data = b""
        self._at = 0
        self._ended = False
        self._dropped_bytes = 0
        self._dropped_lines = 0
        self.too_long = False
        """Whether the latest element was longer than MAX_ELEMENT; only the beginning of such a line is returned."""
        self._start = 0

    @property
    def read_bytes(self) -> int:
        """Bytes read from the stream, before decompression."""
        return self._counted.read_bytes

    @property
    def line(self) -> int:
        """The line in which the latest element begins, from 1."""
        return self._dropped_lines + self._data.count(b"\n", 0, max(0, self._start)) + 1

    @property
    def offset(self) -> int:
        """The byte at which the latest element begins, uncompressed."""
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
        """Append more data to the unused rest; False at the end."""
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
        """Move to the next byte that is not white space; False at the end."""
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
        """One line, or all lines of a multi-line object."""
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
        if self._entry is not None and (prefix := self._entry.match(self._data, self._at, end + 1)):
            self._at = prefix.end()
            if self._data[self._at : end].rstrip() == b"{":
                return self._message(self._entry)
        line = self._data[self._at : end].rstrip()
        # Only a line with a single brace begins a multi-line object. Any other unfinished line was truncated, and must
        # not swallow the lines after it.
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

    def _message(self, entry: re.Pattern[bytes]) -> bytes:
        """The object of a log entry: to the brace that stands at a line's beginning, or to the next entry.

        A truncated message ends there, so that it swallows no other; counting brackets would go on to the end.
        """
        searched = 0
        while True:
            line_end = self._data.find(b"\n", self._at + searched)
            # A prefix is recognised only in a complete line.
            complete = line_end >= 0 and (self._data.find(b"\n", line_end + 1) >= 0 or self._ended)
            if not complete:
                if len(self._data) - self._at > MAX_ELEMENT:
                    return self._long_line()
                if self._fill():
                    continue
                if line_end < 0:
                    line_end = len(self._data)
            start = line_end + 1
            if start >= len(self._data) or entry.match(self._data, start):
                end = line_end
            elif self._data.startswith(b"}", start):
                end = start + 1
            else:
                searched = start - self._at
                continue
            message = self._data[self._at : end].rstrip()
            self._at = end
            return message

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
        """The elements of an array, from after its opening bracket to its closing one."""
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
        return InputError(f"the array that begins at byte {opened} is truncated: it has no closing bracket")
