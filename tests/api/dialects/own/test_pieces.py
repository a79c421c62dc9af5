"""Answers with many rows are packed, rendered and sent in pieces: the same bytes as at once."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from typing import Any

import pytest

from api.cache.entries import Body, CacheEntry, pack_entry, pack_figures, unpack_entry
from api.dialects.own.answers import Item, Part
from api.dialects.own.rendering import CSV_WITH_BOM, PIECE_ROWS, Answer, in_pieces, render
from api.ledger.statistics import HeldPeriods
from schemas.events import BOM
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.api.conftest import Clock, Serve
from tests.api.own_sample import DAY, serve_sample

LAST = date(2028, 2, 29)


class Row(Item, frozen=True, kw_only=True):
    share: float | None = None
    failed: int


class Table(Part, frozen=True, kw_only=True):
    filters: dict[str, str]
    items: list[Row]
    complete: bool


def answer(rows: int, more: int = 0) -> Answer[Table]:
    """The label is in some rows only, and looks like the member that holds the rows."""
    labels: dict[str, Any] = {"realm": '"items":[]'}
    items = [
        Row(period="2028-02", first=LAST, last=LAST, failed=number, **(labels if number % 3 else {}))
        for number in range(rows)
    ]
    more_rows = [{"from": "2028-02-01", "unattributed": number} for number in range(more)]
    return Answer(Table(filters={"realm": '"items":[]'}, items=items, complete=True), more_rows, ("realm",))


@pytest.mark.parametrize("form", ["json", "csv", CSV_WITH_BOM])
@pytest.mark.parametrize(("rows", "pieces"), [(0, 0), (PIECE_ROWS, 0), (PIECE_ROWS + 1, 2), (3 * PIECE_ROWS, 3)])
async def test_pieces_are_the_same_bytes(clock: Clock, rows: int, pieces: int, form: str) -> None:
    whole = answer(rows, more=2)
    divided = await in_pieces(whole)
    assert len(divided.pieces) == pieces
    expected = await Body.of(render(whole, form))
    entry = CacheEntry(pack_figures(divided), clock.now, clock.now + 60, clock.handed, partial=False)
    for kept in (entry, unpack_entry("name", pack_entry("name", entry), clock.handed)):
        body = await Body.of(render(kept.figures(Answer[Table]), form))
        assert b"".join(body.pieces) == b"".join(expected.pieces)
        assert body.size == sum(map(len, body.pieces))
    assert entry.size > rows * 20


async def test_a_table_in_pieces_has_the_columns_of_all_rows() -> None:
    body = await Body.of(render(await in_pieces(answer(2 * PIECE_ROWS, more=1)), CSV_WITH_BOM))
    text = b"".join(body.pieces)
    assert text.startswith(BOM)
    rows = list(csv.DictReader(io.StringIO(text.removeprefix(BOM).decode())))
    assert len(rows) == 2 * PIECE_ROWS + 1
    assert (rows[0]["realm"], rows[1]["realm"], rows[-1]["unattributed"]) == ("", '"items":[]', "0")


@pytest.mark.parametrize("form", ["json", "csv"])
async def test_an_api_sends_pieces_whole(
    serve: Serve, redis_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    api = await serve_sample(serve, redis_url, clock)
    path = f"/v1/logins?{DAY}&group_by=realm&format={form}"
    whole = await api.get(path)
    monkeypatch.setattr("api.dialects.own.rendering.PIECE_ROWS", 1)
    other = await api.get(path + "&limit=999")
    again = await api.get(path + "&limit=999")
    assert whole.text == other.text == again.text
    assert (other.headers["Content-Length"], other.headers["ETag"]) == (str(len(other.text)), whole.headers["ETag"])
    if form == "json":
        assert len(json.loads(other.text)["items"]) > 1
    current = await api.get(path + "&limit=999", headers={"If-None-Match": other.headers["ETag"]})
    assert (current.status, current.text) == (304, "")


async def test_reads_are_counted_without_being_listed() -> None:
    shards = [ShardKeys("authtally:", Shard("auth.logins", number)) for number in range(3)]
    client, realm = Scope("client", ("acme", "web")), Scope("realm", ("acme",))
    known = {client: {shards[0].shard}, realm: {shards[0].shard, shards[2].shard}}
    held = HeldPeriods({"2028-02-28": shards, "2028-02-29": shards[1:]}, known_by=known)
    for periods in ([], ["2028-02-28"], ["2028-02-28", "2028-02-29", "2028-03-01"]):
        for scopes in ([], [EVERYTHING], [EVERYTHING, client, realm]):
            listed = [unit for period in periods for unit in held.shard_scopes(period, scopes)]
            assert await held.number_of_reads(periods, scopes) == len(listed)
