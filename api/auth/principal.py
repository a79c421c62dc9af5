"""The authenticated caller, as far as answers depend on it."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

EVERY_REGION: Final = "*"


class Principal(NamedTuple):
    """`realms` None sees everything; a set sees only those realms, and their union instead of everything.

    `regions` None sees the region of this api; a set sees these regions, and EVERY_REGION in it is all of them.
    """

    subject: str
    scopes: frozenset[str]
    realms: frozenset[str] | None = None
    expires_at: float = math.inf
    """Unix time at which the token expires."""
    regions: frozenset[str] | None = None

    @property
    def owner(self) -> tuple[str, ...]:
        """Identifies whose sessions and streams these are: tenants with an equal subject differ in their realms."""
        return (self.subject,) if self.realms is None else (self.subject, *sorted(self.realms))

    def sees_region(self, name: str, own: str) -> bool:
        """Whether figures of region `name` may be answered by the api of region `own`."""
        if self.regions is None:
            return name == own
        return name in self.regions or EVERY_REGION in self.regions
