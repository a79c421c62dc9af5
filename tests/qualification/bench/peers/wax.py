"""Arm: Bytewax with its Kafka connector, values decoded by msgspec, additions in memory, a batch at a time."""

from __future__ import annotations

import sys
from typing import Any

from bytewax import operators
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

from tests.qualification.bench.peers.additions import Additions


def main(bootstrap: str, events: int) -> None:
    additions = Additions(events)

    def count(batch: list[Any]) -> list[Any]:
        for message in batch:
            additions.add(message.topic, message.value)
        additions.saw(len(batch))
        return []

    flow = Dataflow("additions")
    source = KafkaSource([bootstrap], ["bench.logins", "bench.tokens"], batch_size=5_000)
    read = operators.input("read", flow, source)
    done = operators.flat_map_batch("count", read, count)
    operators.output("nowhere", done, TestingSink([]))
    run_main(flow)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
