"""The authenticated caller, as far as answers depend on it."""

from __future__ import annotations

import math
from typing import NamedTuple


class Principal(NamedTuple):
    """`realms` None sees everything; a set sees only those realms, and their union instead of everything."""

    subject: str
    scopes: frozenset[str]
    realms: frozenset[str] | None = None
    expires_at: float = math.inf
    """Unix time at which the token expires."""

    @property
    def owner(self) -> tuple[str, ...]:
        """Identifies whose sessions and streams these are: tenants with an equal subject differ in their realms."""
        return (self.subject,) if self.realms is None else (self.subject, *sorted(self.realms))
