"""The page for lawyers: the tests that it names exist, and the shares of its table are those of real sketches."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import redis

from deploy.demo.servers import Valkey

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "regions-and-privacy.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
SHARES = re.findall(r"^ *\| ([\d,]+) \| (\d+) \| (\d+) % \|$", PAGE, re.MULTILINE)
STRANGERS = 2_000


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_named_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_of_the_proof_names_a_test() -> None:
    rows = PAGE.partition("## Proof")[2].split("|---|---|\n")[1].strip().splitlines()
    assert len(rows) >= 10
    assert [row for row in rows if "::" not in row] == []


@pytest.mark.parametrize(("users", "sketches", "percent"), SHARES)
def test_the_share_of_strangers_whom_a_sketch_does_not_exclude(users: str, sketches: str, percent: str) -> None:
    """A stranger is excluded if adding the digest would change the sketch."""
    count, parts = int(users.replace(",", "")), int(sketches)
    chance = random.Random(12)
    with Valkey() as server, redis.Redis.from_url(server.url) as client:
        # One sketch is enough: users are spread evenly, and only the sketch of a stranger's part can exclude it.
        members = [chance.getrandbits(64) for _ in range(count // parts)]
        for start in range(0, len(members), 5_000):
            client.pfadd("sketch", *members[start : start + 5_000])
        asked = client.pipeline(transaction=False)
        for _ in range(STRANGERS):
            asked.copy("sketch", "tried", replace=True)
            asked.pfadd("tried", chance.getrandbits(64))
        answers = asked.execute()[1::2]
    share = 100 * answers.count(0) / STRANGERS
    # Four standard deviations of a share of 2,000.
    assert abs(share - int(percent)) <= 0.5 + 400 * (0.25 / STRANGERS) ** 0.5


def test_the_table_of_shares_has_rows() -> None:
    assert len(SHARES) == 6
