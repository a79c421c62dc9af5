"""Merged periods never change an answer, whatever happens to ledger, store and readers."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import Phase

from aggregator.ledger import ledger as ledgers_of_aggregator
from tests.api.ledger.merged_model import run_model

TOKEN = "redis.call('HSET', KEYS[8], period, ARGV[4])"


def test_answers_do_not_depend_on_merged_periods(redis_url: str) -> None:
    run_model(redis_url, max_examples=10, stateful_step_count=15)


@pytest.mark.chaos
@pytest.mark.timeout(1_800)
def test_answers_do_not_depend_on_merged_periods_for_long(redis_url: str) -> None:
    run_model(redis_url, max_examples=200, stateful_step_count=50)


def count_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the random token of a period by a counter of its changes."""
    script = ledgers_of_aggregator.SCRIPT
    assert script.count(TOKEN) == 1
    counting = script.replace(TOKEN, "redis.call('HINCRBY', KEYS[8], period, 1)")
    monkeypatch.setattr(ledgers_of_aggregator, "SCRIPT", counting)
    monkeypatch.setattr(ledgers_of_aggregator, "SCRIPT_SHA", hashlib.sha1(counting.encode()).hexdigest())


def test_the_model_finds_a_counter_instead_of_a_token(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count_changes(monkeypatch)
    with pytest.raises(AssertionError, match="the answer depends on merging"):
        run_model(redis_url, max_examples=150, stateful_step_count=30, phases=[Phase.generate], database=None)
