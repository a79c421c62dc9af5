"""Text for a terminal. Names from events can contain escape sequences, which could rename its window or hide lines."""

from __future__ import annotations

import json
import unicodedata
from typing import Final

import click

INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of controls, of formats such as a change of direction, of surrogates, and of line ends."""
LAYOUT: Final = "\n\t"
"""Controls of our own texts."""


def printable(text: str, keep: str = "") -> str:
    """The text with invisible characters as escapes, such as `\\x1b`; those of `keep` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _is_invisible(character) and character not in keep else character
        for character in text
    )


def printable_json(document: str) -> str:
    """The same for JSON, which need not escape all of them: they stand only inside strings, and the value is equal."""
    return "".join(
        json.dumps(character)[1:-1] if _is_invisible(character) and character not in LAYOUT else character
        for character in document
    )


def echo(text: str = "", *, err: bool = False) -> None:
    """Print text that can contain names from events."""
    click.echo(printable(text, LAYOUT), err=err)


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in INVISIBLE
