"""The list of faults, which each file beside this one adds to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.qualification.chaos.site import Site

Does = Callable[[Site, random.Random], str]
"""Brings a fault about and heals it; answers what it did, or why it could not, beginning with `not`."""


@dataclass(frozen=True)
class Fault:
    name: str
    does: Does
    weight: int
    store: bool
    """Whether the store may refuse or lose its last writes meanwhile."""
    broker: bool

    @property
    def shown(self) -> str:
        """Its name in words."""
        return self.name.replace("_", " ")


KINDS: Final[dict[str, Fault]] = {}


def fault(weight: int, *, store: bool = False, broker: bool = False) -> Callable[[Does], Does]:
    """Register a function as a fault by its own name."""

    def add(does: Does) -> Does:
        KINDS[does.__name__] = Fault(does.__name__, does, weight, store, broker)
        return does

    return add


class Server(Protocol):
    """A process of the site."""

    def start(self) -> Any: ...

    def kill(self) -> None: ...


class Pausing(Protocol):
    """A process that stops at once, and later continues."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


def killed(site: Site, server: Server, away_s: float) -> None:
    """SIGKILL; it comes back after a while."""
    server.kill()
    site.struck()
    time.sleep(away_s)
    server.start()


def stopped(site: Site, process: Pausing, stopped_s: float) -> None:
    """SIGSTOP, and after a while SIGCONT."""
    process.pause()
    site.struck()
    time.sleep(stopped_s)
    process.resume()
