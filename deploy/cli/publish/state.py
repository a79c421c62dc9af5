"""Up to where `authtally publish` has come, on disk: what it says was acknowledged, was.

An element is known by the digest of everything up to it, so a file that differs from the one that was begun is found
out, and an element without an id gets one that it has again on every later run.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec

FORMAT: Final = 1
DIGEST_BYTES: Final = 16


def first_link(source: str) -> bytes:
    """Where the chain of digests begins; another for every `--source`."""
    return hashlib.blake2b(source.encode(), digest_size=DIGEST_BYTES, person=b"authtally-pub").digest()


def next_link(link: bytes, element: bytes) -> bytes:
    """The digest of all elements up to this one. The link before it has a fixed length: nothing can shift."""
    return hashlib.blake2b(link + element, digest_size=DIGEST_BYTES).digest()


class ElementCounts(msgspec.Struct, frozen=True):
    """What became of the elements up to a point of the input, over all runs."""

    elements: int = 0
    events: int = 0
    ignored: int = 0
    rejected: dict[str, int] = {}
    rejects_bytes: int = 0
    """Length of the file of rejects up to here: a resumed run goes on from there."""


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
    """The state file is none, or one of another input."""


def load(path: Path) -> State | None:
    """None when there is no such file. Raises StateError."""
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
        raise StateError(f"{path} is no state of publish: {error}") from error
    if state.version != FORMAT:
        raise StateError(f"{path} is of another version of authtally ({state.version}, not {FORMAT})")
    return state


def save(path: Path, state: State) -> None:
    """Replace the file at once: a crash leaves the old one or the new one. Raises StateError."""
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}; choose another with --state") from error
