"""The mutations, by the part of the product that they change."""

from __future__ import annotations

from typing import Final

from tests.qualification.mutations.catalogue import (
    answers,
    batches,
    clocks,
    folding,
    ids,
    inventory,
    ledger,
    life,
    records,
    regions,
    tokens,
)
from tests.qualification.mutations.mutation import Mutation

MUTATIONS: Final[tuple[Mutation, ...]] = (
    *records.MUTATIONS,
    *folding.MUTATIONS,
    *ids.MUTATIONS,
    *inventory.MUTATIONS,
    *batches.MUTATIONS,
    *ledger.MUTATIONS,
    *clocks.MUTATIONS,
    *life.MUTATIONS,
    *tokens.MUTATIONS,
    *answers.MUTATIONS,
    *regions.MUTATIONS,
)
