"""The state file of `authtally publish`: how many elements are acknowledged, never more than really are.

The digest of everything up to an element identifies it. So a changed input is detected, and an element without an id
gets the same generated id in every run.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec

from schemas.decoding_errors import describe

FORMAT: Final = 1
DIGEST_BYTES: Final = 16


def first_link(source: str) -> bytes:
    """The first digest of the chain; it differs for each `--source`."""
    return hashlib.blake2b(source.encode(), digest_size=DIGEST_BYTES, person=b"authtally-pub").digest()


def next_link(link: bytes, element: bytes) -> bytes:
    """The digest of all elements up to this one. The fixed length of `link` makes the concatenation unambiguous."""
    return hashlib.blake2b(link + element, digest_size=DIGEST_BYTES).digest()


class ElementCounts(msgspec.Struct, frozen=True):
    """Results of the elements up to a point of the input, over all runs."""

    elements: int = 0
    events: int = 0
    ignored: int = 0
    rejected: dict[str, int] = {}
    rejects_bytes: int = 0
    """Length of the file of rejects at this point, where a resumed run continues."""
    unknown: dict[str, int] = {}
    """Ignored elements by unknown event type."""


class State(msgspec.Struct, frozen=True):
    """A state file. `tally` covers exactly the elements whose events the broker has acknowledged."""

    version: int
    format: str
    source: str
    ids: bool
    link: str
    tally: ElementCounts
    finished: bool


class StateError(Exception):
    """The state file is not valid, or belongs to another input."""


def load(path: Path) -> State | None:
    """The state; None if there is no such file. Raises StateError."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    try:
        state = msgspec.json.decode(text, type=State)
        bytes.fromhex(state.link)
    except (msgspec.DecodeError, ValueError) as error:
        fault = describe(error, text) if isinstance(error, msgspec.ValidationError) else str(error)
        raise StateError(f"{path} is not a state file of publish: {fault}; name another file with --state") from error
    if state.version != FORMAT:
        raise StateError(f"{path} has another file format ({state.version}, not {FORMAT})")
    return state


def save(path: Path, state: State) -> None:
    """Replace the file atomically: a crash leaves the old one or the new one. Raises StateError."""
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}; name another file with --state") from error
