"""The corpus of foreign records (tests/corpus), through Apache Kafka with its limits off, a worker and the api."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from aiokafka import codec

from aggregator.kafka import dead_letters
from deploy.demo.servers import create_topics
from schemas.ledger import fields
from schemas.ledger.inventory import INVENTORY_BINDINGS as INVENTORY
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.conftest import wait_until
from tests.corpus import rows
from tests.corpus.around import CODECS, HOUR_MS, Headers
from tests.corpus.bindings import BINDINGS
from tests.corpus.rows import ROWS, Outcome, Record, Row, neighbour
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.expected_counts import log_ends, positions
from tests.integration.raw_batches import Written, batch, compressed, produce, replaced
from tests.integration.sites import PREFIX, Broker, Site
from tests.integration.test_bad_records import letters

LIMITS_OFF: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
    # Segments go by the largest timestamp in them, which may be decades ago.
    "retention.ms": "-1",
}
ROWS_PER_BATCH: Final = 8
ENCODE: Final[Mapping[str, Any]] = {
    "gzip": codec.gzip_encode,
    "snappy": codec.snappy_encode,
    "lz4": codec.lz4_encode,
    "zstd": codec.zstd_encode,
}
EXPIRED: Final = "2000-01-01"
"""The day of the oldest usable timestamp: older than RETAIN_DAYS, so not kept."""
TIMES: Final = {fields.FIRST_EVENT, fields.LAST_EVENT, fields.FIRST_RECORD, fields.LAST_RECORD}
COUNTED_S: Final = 120


class Sent(NamedTuple):
    """A row in the log, and what becomes of it."""

    row: Row
    record: Record
    outcomes: list[Outcome]
    untimed: bool = False


def corpus(binding: str, clock_ms: int) -> list[list[Sent]]:
    """The rows of a binding, each followed by its neighbour, in batches of one codec."""
    order = list(CODECS).index
    mine = sorted(((n, row) for n, row in enumerate(ROWS) if row.binding == binding), key=lambda it: order(it[1].codec))
    batches: list[list[Sent]] = []
    for _, numbered in groupby(mine, key=lambda it: it[1].codec):
        batches.append([])
        for number, row in numbered:
            record = row.record(clock_ms, f"row-{number}")
            sent = [Sent(row, record, row.outcomes(clock_ms), row.untimed), neighbour_of(row, number, clock_ms)]
            if len(batches[-1]) >= 2 * ROWS_PER_BATCH:
                batches.append([])
            # A batch holds timestamps as differences of 64 bits, and aiokafka takes a first one of -1 for none yet.
            alone = abs(record.timestamp_ms) > 2**62 or (record.timestamp_ms == -1 and not batches[-1])
            if alone:
                batches.append([])
            batches[-1].append(sent[0])
            if alone:
                batches.append([])
            batches[-1].append(sent[1])
    return [each for each in batches if each]


def neighbour_of(row: Row, number: int, clock_ms: int, fate: str | None = None) -> Sent:
    good = neighbour(row.binding, number)._replace(codec=row.codec)
    outcomes = good.outcomes(clock_ms) if fate is None else [Outcome(fate)]
    return Sent(good, good.record(clock_ms, f"neighbour-{number}"), outcomes)


def written(batches: Sequence[Sequence[Sent]]) -> Iterator[bytes]:
    for sent in batches:
        records: list[Written] = []
        names: dict[str, bytes] = {}
        for one in sent:
            headers, raw = placeheld(one.record.headers)
            names |= raw
            records.append(Written(one.record.value, one.record.key, headers, one.record.timestamp_ms))
        plain = batch(*records)
        for placeholder, name in names.items():
            plain = replaced(plain, placeholder.encode(), name)
        number = list(CODECS).index(sent[0].row.codec)
        yield compressed(plain, number, ENCODE[sent[0].row.codec]) if number else plain


def placeheld(headers: Headers) -> tuple[Headers, dict[str, bytes]]:
    """Headers with names that clients take, and the bytes that are to be in the place of some."""
    found: list[tuple[str, bytes | None]] = []
    raw: dict[str, bytes] = {}
    for name, value in headers:
        name_bytes, placeholder = name.encode(errors="surrogateescape"), name
        if name_bytes.decode(errors="replace") != name:
            placeholder = "\x7f" * len(name_bytes)
            raw[placeholder] = name_bytes
        found.append((placeholder, value))
    return found, raw


class Deployment:
    """A topic for each binding, and everything sent to it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.shards = {binding: Shard(f"{site.logins}.{binding}", 0) for binding in BINDINGS}
        create_topics(site.broker.address, {shard.topic: 1 for shard in self.shards.values()}, LIMITS_OFF)
        site.workers.settings["topics"] = ",".join(f"{shard.topic}={name}" for name, shard in self.shards.items())
        self.sent: dict[Shard, list[Sent]] = defaultdict(list)
        """By offset."""

    def send(self, binding: str, batches: Sequence[Sequence[Sent]]) -> None:
        shard = self.shards[binding]
        offsets = produce(self.site.broker.address, shard, *written(batches))
        for offset, sent in zip(offsets, batches, strict=True):
            assert offset == len(self.sent[shard])
            self.sent[shard] += sent

    def wait_until_counted(self) -> None:
        shards = list(self.shards.values())
        ends = log_ends(self.site.broker.address, shards)
        assert ends == {shard: len(sent) for shard, sent in self.sent.items()}
        (worker,) = self.site.workers.started

        def there() -> bool:
            assert worker.running, "a record ended the worker"
            return positions(self.site.client, shards, PREFIX) == ends

        wait_until(there, COUNTED_S, f"every partition at its end: {ends}")

    def outcomes(self, shard: Shard) -> list[Outcome]:
        return [outcome for one in self.sent[shard] for outcome in one.outcomes]

    def check_books(self) -> None:
        for binding, shard in self.shards.items():
            shard_keys, client = ShardKeys(PREFIX, shard), self.site.client
            wanted = rows.progress(self.outcomes(shard))
            wanted[fields.UNTIMED] = sum(one.untimed for one in self.sent[shard])
            held = {
                name: int(number) for name, number in client.hgetall(shard_keys.progress).items() if name not in TIMES
            }
            unknown = held.pop(fields.UNKNOWN_TYPES, 0)
            assert unknown == sum(number > 0 for name, number in held.items() if is_unknown(name)) <= 1, binding
            assert +Counter({name: at for name, at in held.items() if not is_unknown(name)}) == +wanted, binding
            counts = rows.counts(self.outcomes(shard))
            counts.pop(EXPIRED, None)
            found = {period: client.hgetall(shard_keys.counts(period, EVERYTHING)) for period in counts}
            assert {period: Counter(map_int(of_period)) for period, of_period in found.items()} == counts, binding
            if binding not in INVENTORY:
                assert set(client.zrange(shard_keys.index, 0, -1)) - {EXPIRED} == set(counts), binding

    def dead(self) -> dict[tuple[str, int, int], str]:
        """The reason by topic, offset and element."""
        return {
            (shard.topic, offset, nth): outcome.fate
            for shard, log in self.sent.items()
            for offset, one in enumerate(log)
            for nth, outcome in enumerate(one.outcomes)
            if outcome.fate.startswith(rows.DEAD)
        }

    def check_letters(self) -> None:
        wanted = self.dead()
        with letters(self.site, len(wanted)) as found:
            by_place = {}
            for letter in found:
                result = dict(letter.headers())
                place = (
                    result[dead_letters.TOPIC].decode(),
                    int(result[dead_letters.OFFSET]),
                    int(result[dead_letters.INDEX]),
                )
                by_place[place] = fields.dead(result[dead_letters.REASON].decode())
                one = self.sent[Shard(place[0], 0)][place[1]]
                assert int(result[dead_letters.TIMESTAMP]) == one.record.timestamp_ms, one.row.why
                assert letter.key() == one.record.key or dead_letters.TRUNCATED in result, one.row.why
                assert len(one.outcomes) > 1 or letter.value() == one.record.value, one.row.why
            assert by_place == wanted


def is_unknown(name: str) -> bool:
    return fields.split(name)[0] == "unknown"


def map_int(held: Mapping[str, str]) -> dict[str, int]:
    return {name: int(number) for name, number in held.items()}


def test_each_record_of_the_corpus_becomes_what_it_says_and_hurts_nothing_else(
    apache: Broker, make_site: MakeSite
) -> None:
    site = make_site(apache, partitions=1)
    deployment = Deployment(site)
    worker = site.workers.start()
    clock_ms = int(time.time() * 1000)
    for binding in BINDINGS:
        deployment.send(binding, corpus(binding, clock_ms))
    deployment.wait_until_counted()
    deployment.check_books()
    deployment.check_letters()
    assert worker.wait_until_ready().alive()

    with ApiProcess(auth="none", redis_url=site.store.url) as api:
        pipeline = api.get("/v1/pipeline")
        assert pipeline.status == 200
        result = {item["topic"]: item for item in pipeline.json["items"]}
        for shard, log in deployment.sent.items():
            assert (result[shard.topic]["position"], result[shard.topic]["adds_up"]) == (len(log), True)
            assert result[shard.topic]["untimed"] == sum(one.untimed for one in log)
        day = time.strftime("%Y-%m-%d", time.gmtime((clock_ms - HOUR_MS) / 1000))
        wanted = sum((rows.counts(deployment.outcomes(at)).get(day, Counter()) for at in deployment.sent), Counter())
        (logins,) = api.get(f"/v1/logins?from={day}&to={day}").json["items"]
        assert logins["succeeded"] == wanted[fields.LOGIN]
        assert logins["failed"] == sum(wanted[name] for name in wanted if fields.split(name)[0] == "failed")
        (active,) = api.get(f"/v1/active-users?from={day}&to={day}").json["items"]
        assert active["value"] == 1, "all are of the same user"

    # Ids are recognised as before, whatever timestamps were among them.
    for binding, each in BINDINGS.items():
        fate = rows.REPEATED if each.identified else None
        again = [neighbour_of(row, number, clock_ms, fate) for number, row in enumerate(ROWS) if row.binding == binding]
        deployment.send(binding, [[one] for one in again[:1]] + [again[1:]])
    deployment.wait_until_counted()
    deployment.check_books()
    assert worker.readiness() == (True, [])
