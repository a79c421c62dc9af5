"""Records that no producer of ours writes: hostile values, other codecs, odd timestamps."""

from __future__ import annotations

import random
import time
from typing import Final

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from schemas.ledger.fields import ALLOWED_AT_FIRST
from tests.qualification.chaos.faults.kinds import fault
from tests.qualification.chaos.faults.stores import some_shard
from tests.qualification.chaos.lanes import Lane
from tests.qualification.chaos.site import Site
from tests.qualification.chaos.templates import BAD

CODECS: Final = ("gzip", "snappy", "lz4", "zstd")
MOST_DEFECTS: Final = 4
IDS_FORGOTTEN: Final = "year 2000"
"""With this timestamp an id lies before the window of ids, so that none is held of it."""


def _a_lane(site: Site, chance: random.Random) -> Lane:
    return site.foreign if chance.random() < 0.25 else site.ledger.lanes[some_shard(site, chance)]


def _hostile(lane: Lane) -> list[int]:
    return [number for number, one in enumerate(lane.templates.corpus) if not one.defect]


@fault(weight=5)
def foreign_record(site: Site, chance: random.Random) -> str:
    """Every specimen of a topic's corpus in any order, some again, among the events of the flow."""
    lane = _a_lane(site, chance)
    corpus = _hostile(lane)
    chosen = chance.sample(corpus, len(corpus)) + chance.choices(corpus, k=5)
    site.ledger.send_poison(lane, [(one, lane.first_ms + chance.randrange(1000)) for one in chosen])
    return f"{len(chosen)} records in {lane.shard.tag}"


@fault(weight=4)
def foreign_codec(site: Site, chance: random.Random) -> str:
    """A producer that compresses, or a topic whose broker does."""
    lane, codec = site.ledger.lanes[some_shard(site, chance)], chance.choice(CODECS)
    if chance.random() < 0.5:
        for _ in range(chance.randrange(1, 5)):
            site.ledger.send_chunk_in(codec, lane)
        return f"{codec} by the producer, in {lane.shard.tag}"
    topic = lane.shard.topic
    _compress(site, topic, codec)
    site.struck()
    time.sleep(chance.uniform(0.5, 2))
    _compress(site, topic, "producer")
    return f"{codec} by the topic {topic}"


def _compress(site: Site, topic: str, codec: str) -> None:
    entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    client = site.ledger.admin()  # its futures fail once it is gone
    for future in client.incremental_alter_configs([resource]).values():
        future.result(20)


@fault(weight=5)
def odd_record_timestamp(site: Site, chance: random.Random) -> str:
    """Good events and hostile ones with timestamps that no clock gives, mixed in batches."""
    lane = _a_lane(site, chance)
    stamps, corpus = lane.templates.stamps, lane.templates.corpus
    records = []
    for name, stamp_ms in stamps.items():
        fit = [number for number in _hostile(lane) if not (corpus[number].timeless and name == IDS_FORGOTTEN)]
        chosen = chance.sample(fit, 3)
        if lane is not site.foreign:
            # Those after BAD have ids, which the harness counts once by another rule.
            chosen += [len(corpus) + chance.randrange(BAD + 1) for _ in range(5)]
        records += [(one, stamp_ms) for one in chosen]
    chance.shuffle(records)
    site.ledger.send_poison(lane, records, chance.choice(("none", *CODECS)))
    return f"{len(records)} records with {len(stamps)} timestamps in {lane.shard.tag}"


@fault(weight=2)
def unexpected_record(site: Site, chance: random.Random) -> str:
    """Records on which the fold of this run raises, with repeats of one id before, between and after them."""
    lane = site.ledger.lanes[some_shard(site, chance)]
    numbers = {one.name: number for number, one in enumerate(lane.templates.corpus)}
    if not site.folds_raise or lane.defects + MOST_DEFECTS > ALLOWED_AT_FIRST:
        return "not done: the fold is in order, or the shard's allowance would be used up"
    odd, defects = list(lane.templates.stamps.values()), chance.randrange(1, MOST_DEFECTS + 1)
    names = ["defect"] * defects + ["repeated"] * 3 + ["unique"] * 3 + ["one byte"] * 2
    chance.shuffle(names)
    usual = lane.first_ms
    site.ledger.send_poison(
        lane, [(numbers[name], chance.choice(odd) if name == "defect" else usual) for name in names]
    )
    return f"{defects} records in {lane.shard.tag}"
