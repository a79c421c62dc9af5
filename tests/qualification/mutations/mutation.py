"""One mutation: a guard of the product, the text that removes it, and the test that must fail without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class StaleTextError(ValueError):
    """The text of a mutation does not occur exactly once in its file."""


@dataclass(frozen=True)
class Mutation:
    """Data; nothing is read before `text`."""

    case: str
    """The kind of fault that the guard is against: the name of a group in README.md."""
    why: str
    """What the guard does, and the fault that it prevents."""
    file: str
    """Path in the repository."""
    old: str
    """Text that occurs exactly once in the file."""
    new: str
    """The same without the guard."""
    test: str
    """The node id of a test that fails without the guard; with parameters in brackets to run one of them."""

    def text(self, root: Path) -> str:
        """The file's text without the guard. Raises StaleTextError."""
        written = (root / self.file).read_text(encoding="utf-8")
        found = written.count(self.old)
        if found != 1:
            raise StaleTextError(f"{self.file}: {self.old!r} occurs {found} times, must occur once")
        return written.replace(self.old, self.new)
