"""Arm: Quix Streams, values decoded by msgspec, additions in memory."""

from __future__ import annotations

import sys
import uuid
from typing import Any

from quixstreams import Application

from tests.qualification.bench.peers.additions import Additions

EVERY = 1_000


def main(bootstrap: str, events: int) -> None:
    application = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{uuid.uuid4().hex[:8]}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="ERROR",
    )
    additions = Additions(events)
    waiting = 0
    for name in ("bench.logins", "bench.tokens"):

        def count(value: Any, name: str = name) -> None:
            nonlocal waiting
            additions.add(name, value)
            waiting += 1
            if waiting == EVERY:
                additions.saw(waiting)
                waiting = 0

        application.dataframe(application.topic(name, value_deserializer="bytes")).update(count)
    application.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
