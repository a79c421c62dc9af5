"""Stands between clients and the nodes of a store, and cuts connections in the middle. Run as a program.

`python -m tests.qualification.chaos.proxy CONTROL PORT:TARGET…` listens on each PORT and passes everything on to
TARGET. A line
`PORT WHERE TIMES` sent to CONTROL arms it: that many of the next long requests to PORT are cut in the middle of the
`request`, before the `answer`, or in the `middle` of the answer. It is answered with how many were left of the last. A
line `PORT to TARGET` sends new connections to another port, while those that are open stay where they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio import StreamReader, StreamWriter
from typing import Final

import uvloop

HOST: Final = "127.0.0.1"
PIECE: Final = 256 * 1024
LONG: Final = 400
"""Bytes of a request that is a script with a range rather than a question."""


class Lane:
    """One listening port. `armed` says where the next long request of each connection is cut; how many are left."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.armed = ""
        self.left = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(HOST, self.target, limit=PIECE)
        except OSError:
            writer.close()
            return
        link = Link(self, writer, to_writer)
        try:
            await asyncio.gather(link.requests(reader), link.answers(to_reader))
        except OSError:
            pass
        finally:
            link.close()


class Link:
    """One connection through."""

    def __init__(self, lane: Lane, client: StreamWriter, server: StreamWriter) -> None:
        self._lane, self._client, self._server = lane, client, server
        self._cut_answer = ""

    async def requests(self, reader: StreamReader) -> None:
        while piece := await reader.read(PIECE):
            if self._lane.left and len(piece) >= LONG:
                self._lane.left -= 1
                if self._lane.armed == "request":
                    self._server.write(piece[: len(piece) // 2])
                    await self._server.drain()
                    break
                self._cut_answer = self._lane.armed
            self._server.write(piece)
            await self._server.drain()
        self.close()

    async def answers(self, reader: StreamReader) -> None:
        while piece := await reader.read(PIECE):
            if self._cut_answer:
                if self._cut_answer == "middle":
                    self._client.write(piece[: max(1, len(piece) // 2)])
                    await self._client.drain()
                break
            self._client.write(piece)
            await self._client.drain()
        self.close()

    def close(self) -> None:
        for writer in (self._client, self._server):
            with contextlib.suppress(OSError):
                writer.close()


async def main(control: int, pairs: list[str]) -> None:
    lanes = {int(port): Lane(int(target)) for port, target in (pair.split(":") for pair in pairs)}

    async def obey(reader: StreamReader, writer: StreamWriter) -> None:
        while line := await reader.readline():
            port, where, number = line.decode().split()
            lane, left = lanes[int(port)], 0
            if where == "to":
                lane.target = int(number)
            else:
                left, lane.armed, lane.left = lane.left, where, int(number)
            writer.write(b"%d\n" % left)
        writer.close()

    for port, lane in lanes.items():
        await asyncio.start_server(lane.serve, HOST, port, limit=PIECE)
    # Last, so that a client that is answered here finds the others listening.
    async with await asyncio.start_server(obey, HOST, control) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2:]))
