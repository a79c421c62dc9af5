"""Ages as people write them, and lengths of time as they read them."""

from __future__ import annotations

import pytest

from deploy.cli.doctor import age_of
from deploy.cli.doctor.findings import span

AGES = [("36h", 129_600), ("7d", 604_800), ("90m", 5400), ("45", 45), ("1.5h", 5400), ("2w", 1_209_600)]


@pytest.mark.parametrize(("text", "seconds"), AGES)
def test_ages_are_written_as_people_do(text: str, seconds: float) -> None:
    assert age_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1d", "1y", "one day", "١d", "9" * 20])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        age_of(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (86_400, "1 day"), (180_000, "2 days 2 h"), (3661, "1 h 1 min")],
)
def test_lengths_of_time_are_two_units_at_most(seconds: float, words: str) -> None:
    assert span(seconds) == words
