"""Unions of a question fit together, whatever happens to ledger and store meanwhile."""

from __future__ import annotations

import pytest

from tests.api.ledger.lifecycle_model import LifecycleModel
from tests.api.ledger.merged_model import run_model


def test_every_chain_has_one_mode_and_nested_unions(redis_url: str) -> None:
    run_model(redis_url, LifecycleModel, max_examples=5, stateful_step_count=8)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_every_chain_has_one_mode_and_nested_unions_for_long(redis_url: str) -> None:
    run_model(redis_url, LifecycleModel, max_examples=60, stateful_step_count=30)
