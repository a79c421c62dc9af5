"""Packed bodies that unpack to far more than is taken, many at a time: refused, while others are served."""

from __future__ import annotations

import gzip
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from api.ingest.body import MAX_MEMBERS, _Decompressor
from api.ingest.errors import BadBodyError
from tests.api.sources import listed
from tests.attacks.wire import Connection, Reply
from tests.conftest import CreateTopic
from tests.integration.api_process import ApiProcess

AT_ONCE = 16
MOST_BYTES = 64 * 2**20
"""Beyond what the process holds at rest: what is taken in flight (16 MiB), and what the parser buffers."""
MEBIBYTE = bytes(2**20)


def zeros(mebibytes: int, wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join([*(packer.compress(MEBIBYTE) for _ in range(mebibytes)), packer.flush()])


GZIP, ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS


@pytest.fixture(scope="module")
def bombs() -> dict[str, tuple[bytes, bytes, int]]:
    """Encoding, body and the refusal of each."""
    gigabyte = zeros(1024, GZIP)
    assert len(gigabyte) < 2**20, "small enough to be read"
    return {
        "1 GiB of zeros": (b"gzip", gigabyte, 413),
        "the same as zlib": (b"deflate", zeros(1024, ZLIB), 413),
        "packed twice": (b"gzip", gzip.compress(gigabyte), 400),
        "one member after another": (b"gzip", zeros(1, GZIP) * 900, 413),
        "empty members": (b"gzip", gzip.compress(b"") * 50_000, 400),
        "cut in the middle": (b"gzip", zeros(16, GZIP)[:9_000], 413),
        "cut before the limit": (b"gzip", gzip.compress(json.dumps([1] * 1000).encode())[:-9], 400),
        "gzip, said to be Brotli": (b"br", gigabyte, 415),
        "an encoding of an encoding": (b"gzip, gzip", gigabyte, 415),
    }


def test_a_body_of_a_thousand_members_is_taken() -> None:
    for members in (MAX_MEMBERS, MAX_MEMBERS + 1):
        refused: AbstractContextManager[object] = (
            pytest.raises(BadBodyError) if members > MAX_MEMBERS else nullcontext()
        )
        with refused:
            assert b"".join(_Decompressor().pieces(gzip.compress(b"a") * members)) == b"a" * members


def test_bombs_fill_no_memory_and_block_no_other(
    redis_url: str, broker: str, create_topic: CreateTopic, tmp_path: Path, bombs: dict[str, tuple[bytes, bytes, int]]
) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([listed("sender", scopes=["events:write"])]))
    with ApiProcess(
        redis_url=redis_url,
        auth="static",
        auth_tokens_file=str(tokens),
        ingest="on",
        kafka_bootstrap_servers=broker,
        kafka_idempotence="off",
        topics=f"{create_topic(broker)}=login",
    ) as api:

        def send(bomb: tuple[bytes, bytes, int]) -> Reply:
            encoding, body, _ = bomb
            head = (
                b"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sender\r\n"
                b"Content-Type: application/json\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
            )
            with Connection(("127.0.0.1", api.port), 60) as connection:
                return connection.ask(head % (encoding, len(body)) + body)

        before = api.rss_bytes
        for name, bomb in bombs.items():
            reply = send(bomb)
            assert reply.status == bomb[2], (name, reply)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            thrown = [pool.submit(send, bomb) for bomb in bombs.values() for _ in range(AT_ONCE // 4)]
            while not all(each.done() for each in thrown):
                with Connection(("127.0.0.1", api.port), 60) as other:
                    assert other.ask(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
            assert {each.result().status for each in thrown} <= {400, 413, 415, 429}
        assert api.rss_bytes - before < MOST_BYTES
