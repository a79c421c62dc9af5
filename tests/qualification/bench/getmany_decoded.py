"""Arm: plain aiokafka, `getmany`, values decoded by msgspec, then dropped."""

from __future__ import annotations

import sys
from typing import Any

import uvloop

from schemas.events import DECODERS
from tests.qualification.bench import sample
from tests.qualification.bench.getmany import consume

DECODE = {sample.LOGINS: DECODERS["login"].decode, sample.TOKENS: DECODERS["token"].decode}


def look(topic: str, records: list[Any]) -> None:
    decode = DECODE[topic]
    for record in records:
        decode(record.value)


if __name__ == "__main__":
    uvloop.run(consume(sys.argv[1], int(sys.argv[2]), look))
