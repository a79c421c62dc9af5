"""HTTP/1.1 by hand: requests go out as they are written, and of answers nothing is forgiven."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from io import BufferedReader
from types import TracebackType
from typing import Final, NamedTuple, Self

TIMEOUT_S: Final = 20
STATUS: Final = re.compile(rb"HTTP/\d\.\d (\d{3}) [\x20-\x7e]*\r\n")
FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x20-\x7e]*)\r\n")
STREAM: Final = "text/event-stream"


class ClosedError(Exception):
    """The server has closed the connection instead of answering."""


class Reply(NamedTuple):
    """`headers` by name in lower case. Of a stream `body` is its first event."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip()


class Connection:
    """One connection; it may be asked again as long as `usable`."""

    def __init__(self, address: tuple[str, int], timeout_s: float = TIMEOUT_S) -> None:
        self.socket = socket.create_connection(address, timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file: BufferedReader = self.socket.makefile("rb")
        self.usable = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.usable = False
        # Both: the file keeps the socket open.
        self._file.close()
        self.socket.close()

    def ask(self, raw: bytes, method: bytes = b"GET") -> Reply:
        """Raises ClosedError."""
        try:
            self.socket.sendall(raw)
        except ConnectionError:
            # It may have answered before it closed.
            self.usable = False
        return self.reply(method)

    def reply(self, method: bytes = b"GET") -> Reply:
        """The next answer on this connection. Raises ClosedError."""
        try:
            reply = self._read(method)
        except ConnectionError as error:
            self.usable = False
            raise ClosedError from error
        if reply.headers.get("connection") == "close" or reply.media == STREAM:
            self.usable = False
        return reply

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        self.usable = False
        try:
            return self._file.read()
        except ConnectionError:
            return b""

    def _read(self, method: bytes) -> Reply:
        line = self._file.readline(65_536)
        if not line:
            self.usable = False
            raise ClosedError
        first = STATUS.fullmatch(line)
        assert first, f"no status line: {line[:200]!r}"
        headers = self._headers()
        status = int(first[1])
        if status == 100:
            return self._read(method)
        return Reply(status, headers, self._body(status, headers, method))

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while (line := self._file.readline(65_536)) != b"\r\n":
            field = FIELD.fullmatch(line)
            assert field, f"no header: {line[:200]!r}"
            name = field[1].decode().lower()
            assert name not in headers or name == "set-cookie", f"twice: {name}"
            headers[name] = field[2].decode()
        return headers

    def _body(self, status: int, headers: Mapping[str, str], method: bytes) -> bytes:
        if method == b"HEAD" or status in (204, 304):
            return b""
        if headers.get("content-type") == STREAM:
            return self._event(chunked="transfer-encoding" in headers)
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        if "content-length" in headers:
            length = int(headers["content-length"])
            body = self._file.read(length)
            assert len(body) == length, f"{len(body)} of {length} bytes"
            return body
        self.usable = False
        return self._file.read()

    def _chunk(self) -> bytes:
        size = int(self._file.readline(100), 16)
        chunk = self._file.read(size + 2)
        assert chunk[size:] == b"\r\n"
        return chunk[:size]

    def _event(self, *, chunked: bool) -> bytes:
        found = b""
        while b"\n\n" not in found:
            # To HTTP/1.0, and after `Connection: close`, nothing is chunked.
            found += self._chunk() if chunked else self._file.readline()
        return found
