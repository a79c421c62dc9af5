"""Arm: aiohttp and nothing else, with an answer that lies ready. Run by its path: it needs no package of ours."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from aiohttp import web
from multidict import CIMultiDict


async def serve(port: int, path: str, body: bytes, headers: CIMultiDict[str]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    app = web.Application()
    app.add_routes([web.get(path, answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    # What to answer, as a JSON file of path, body and headers.
    config = json.loads(Path(sys.argv[2]).read_text())
    uvloop.run(serve(int(sys.argv[1]), config["path"], config["body"].encode(), CIMultiDict(config["headers"])))
