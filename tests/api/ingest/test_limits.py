"""What is refused for its size, its packing, its number or its haste, and what of it lies in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from api.ingest.body import PIECE_BYTES, InFlightBytes, _Decompressor
from tests.api.conftest import Clock, Serve
from tests.api.ingest.sending import MakeSite, Site
from tests.api.sources import by_file, listed
from tests.conftest import wait_until_async

LOGIN = {"type": "login", "time": "2026-11-20T10:00:00Z", "user_id": "alice", "realm": "acme"}
BODY = json.dumps(LOGIN).encode()
LINES = BODY + b"\n" + BODY


def packed(body: bytes) -> bytes:
    """The same bytes at any time, since tests are named by them."""
    return gzip.compress(body, mtime=0)


def raw_deflate(body: bytes, level: int = 6) -> bytes:
    """Without zlib's header, as many clients send it."""
    compressor = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


LIMITS = {"ingest_max_bytes": 4096, "ingest_max_events": 10}


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Sent chunked: its length is not known beforehand."""
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize(
    ("body", "encoding", "accepted"),
    [
        (packed(LINES), "gzip", 2),
        (packed(LINES), "x-gzip", 2),
        (packed(BODY + b"\n") + packed(BODY), "gzip", 2),
        (zlib.compress(LINES), "deflate", 2),
        *((raw_deflate(LINES, level), "deflate", 2) for level in (0, 1, 6, 9)),
        (packed(LINES), "deflate", 2),
        (LINES, "identity", 2),
    ],
)
async def test_a_packed_body_is_unpacked(site: Site, body: bytes, encoding: str, accepted: int) -> None:
    answer = await site.send(body, headers={"Content-Encoding": encoding})
    assert (answer.status, answer.json["accepted"]) == (202, accepted)
    assert len(site.holds("login")) == accepted


@pytest.mark.parametrize(
    ("body", "encoding", "status", "why"),
    [
        (packed(LINES)[:-9], "gzip", 400, "cut, so that its lines could seem whole"),
        (packed(LINES)[:-4], "gzip", 400, "cut in its trailer"),
        (packed(LINES) + b"more", "gzip", 400, "followed by what is no gzip"),
        (LINES, "gzip", 400, "not packed at all"),
        (raw_deflate(LINES)[:-9], "deflate", 400, "cut, without zlib's header"),
        (raw_deflate(LINES) + b"more", "deflate", 400, "followed by what is no deflate"),
        (LINES, "deflate", 400, "not packed at all"),
        (b"\x03", "deflate", 400, "one byte"),
        (raw_deflate(LINES), "gzip", 400, "deflate under gzip's name"),
        (raw_deflate(b"[" + b" " * 100_000_000), "deflate", 413, "a bomb without zlib's header"),
        (b"", "gzip", 400, "empty"),
        (LINES, "br", 415, "packed in a way not taken"),
        (LINES, "gzip, gzip", 415, "packed twice"),
        (packed(BODY + b" " * 5000), "gzip", 413, "small only while packed"),
        (packed(b"[" + b" " * 100_000_000), "gzip", 413, "a bomb"),
        (b" " * 5000, "identity", 413, "too large as it says itself"),
    ],
)
async def test_a_body_that_cannot_be_taken_is_refused(
    make_site: MakeSite, body: bytes, encoding: str, status: int, why: str
) -> None:
    site = await make_site(**LIMITS)
    answer = await site.send(body, headers={"Content-Encoding": encoding})
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), why
    if status == 413:
        assert "AUTHTALLY_INGEST_MAX_BYTES" in answer.json["detail"]
    if status == 415:
        assert "gzip" in answer.headers["Accept-Encoding"]
    assert (await site.send(BODY)).status == 202
    assert len(site.holds("login")) == 1


async def test_a_body_that_does_not_say_its_length_is_measured_as_it_comes(make_site: MakeSite) -> None:
    site = await make_site(**LIMITS)
    assert (await site.send(in_pieces(BODY))).status == 202
    answer = await site.send(in_pieces(b" " * 100_000))
    assert answer.status == 413


def test_a_bomb_is_unpacked_piece_by_piece() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    sizes = [len(piece) for piece in _Decompressor().pieces(bomb)]
    assert (sum(sizes), max(sizes)) == (50_000_000, PIECE_BYTES)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ([LOGIN] * 11, "one more than the limit"),
        ([1] * 1000, "elements so small that no event is"),
    ],
)
async def test_too_many_events_are_refused(make_site: MakeSite, body: Any, why: str) -> None:
    site = await make_site(**LIMITS)
    answer = await site.send(body)
    assert answer.status == 413, why
    assert "AUTHTALLY_INGEST_MAX_EVENTS" in answer.json["detail"]
    assert (await site.send([LOGIN] * 10)).json["accepted"] == 10


async def test_a_sender_in_haste_must_wait(make_site: MakeSite, tmp_path: Path, clock: Clock) -> None:
    tokens = by_file(tmp_path, *(listed(name, scopes=["events:write"]) for name in ("a", "b")))
    site = await make_site(**tokens, ingest_rate_limit=2, ingest_rate_per_s=0.5)
    assert [(await site.send(LOGIN, token="a")).status for _ in range(3)] == [202, 202, 429]
    refused = await site.send(LOGIN, token="a")
    assert (refused.headers["Content-Type"], refused.headers["Retry-After"]) == ("application/problem+json", "2")
    assert (await site.send(LOGIN, token="b")).status == 202
    clock.now += 2
    assert (await site.send(LOGIN, token="a")).status == 202
    assert len(site.holds("login")) == 4


async def test_what_is_under_way_is_bounded(make_site: MakeSite) -> None:
    # Room for one, and a Kafka that takes nothing while the others come.
    nowhere = {"kafka_bootstrap_servers": "127.0.0.1:1", "ingest_timeout_s": 1}
    site = await make_site(ingest_max_bytes=4096, ingest_max_in_flight_bytes=4096, **nowhere)
    body = json.dumps([LOGIN] * 30).encode()
    assert 2048 < len(body) < 4096
    answers = await asyncio.gather(*(site.send(body) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [429, 429, 429, 503]
    refused = next(answer for answer in answers if answer.status == 429)
    assert (refused.headers["Content-Type"], refused.headers["Retry-After"]) == ("application/problem+json", "1")
    # The room was given back with the answer.
    assert (await site.send(body)).status == 503


@pytest.mark.parametrize(
    ("asked", "taken", "why"),
    [
        (
            [("a", 6), ("b", 5), ("b", 4), ("b", 1)],
            [True, False, True, False],
            "bytes are counted, all senders' together",
        ),
        ([("a", 6), ("a", 1)], [True, False], "a sender has half of the room, but always one body of 6"),
        ([("a", 3), ("b", 3), ("c", 2)], [True, True, True], "what a sender leaves is for the others"),
    ],
)
def test_room_is_counted_in_bytes_by_sender(asked: list[tuple[str, int]], taken: list[bool], why: str) -> None:
    room = InFlightBytes(10, body_limit=6)
    assert [room.reserve(*each) for each in asked] == taken, why
    for each, took in zip(asked, taken, strict=True):
        if took:
            room.release(*each)
    assert room.reserve("a", 6), "all of it was released"


async def test_stalled_bodies_of_one_sender_leave_room_for_others(make_site: MakeSite, tmp_path: Path) -> None:
    tokens = by_file(tmp_path, *(listed(name, scopes=["events:write"]) for name in ("a", "b")))
    site = await make_site(**tokens, ingest_max_bytes=4096, ingest_max_in_flight_bytes=4 * 4096)
    release, received = asyncio.Event(), 0

    async def stalled() -> AsyncIterator[bytes]:
        nonlocal received
        yield b" " * 4000
        received += 1
        await release.wait()
        yield BODY[:96]

    sent = [asyncio.create_task(site.send(stalled(), token="a")) for _ in range(16)]
    await wait_until_async(lambda: received == 16 and sum(task.done() for task in sent) == 14)
    assert {task.result().status for task in sent if task.done()} == {429}
    assert (await site.send(json.dumps([LOGIN] * 10).encode(), token="b")).status == 202
    release.set()
    await asyncio.gather(*sent)


async def test_a_body_that_never_arrives_is_given_up(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.ingest.body.BODY_TIMEOUT_S", 0.1)
    site = await make_site()
    held = asyncio.Event()

    async def forever() -> AsyncIterator[bytes]:
        yield b"["
        await held.wait()

    answer = await site.send(forever())
    held.set()
    assert answer.status == 408


async def test_a_sender_that_goes_away_leaves_nothing_behind(make_site: MakeSite) -> None:
    site = await make_site(ingest_max_bytes=4096, ingest_max_in_flight_bytes=4096)

    async def broken() -> AsyncIterator[bytes]:
        yield b" " * 4000
        raise RuntimeError("gone")

    with pytest.raises(aiohttp.ClientConnectionError):
        await site.send(broken())
    answer = await site.send(b" " * 200 + BODY)
    while answer.status == 429:
        answer = await site.send(b" " * 200 + BODY)
    assert answer.status == 202


async def test_without_a_limit_on_haste_no_sender_must_wait(make_site: MakeSite) -> None:
    site = await make_site(ingest_rate_limit=0)
    assert {(await site.send(LOGIN)).status for _ in range(20)} == {202}


async def test_reading_figures_needs_no_kafka(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, ingest=True, kafka_bootstrap_servers="127.0.0.1:1")
    assert (await api.get("/health/ready")).status == 200
