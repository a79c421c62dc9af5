"""The text of a registry's metrics, in the format that a scraper's Accept header prefers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


class Exposition(NamedTuple):
    content: bytes
    content_type: str


def exposition(registry: CollectorRegistry, accept: Sequence[str], names: Sequence[str] = ()) -> Exposition:
    """OpenMetrics or Prometheus text, by the Accept headers; `names` restricts the series, as `name[]` in a query."""
    try:
        encode, content_type = choose_encoder(",".join(accept))
    except (TypeError, ValueError):
        # The library compares the version as it was sent, so one that is no number raises.
        encode, content_type = choose_encoder("")
    collected = registry.restricted_registry(list(names)) if names else registry
    return Exposition(encode(collected), content_type)
