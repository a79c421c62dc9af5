"""Text for a terminal. Names from events can contain escape sequences, which could rename its window or hide lines.

Standard streams can be closed, or lie on a full disk.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of controls, of formats such as a change of direction, of surrogates, and of line ends."""
LAYOUT: Final = "\n\t"
"""Controls of our own texts."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of an output that takes no more."""


def open_closed_streams() -> None:
    """Open the null device for closed standard streams: otherwise the next file or socket would get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, hence this one.
            os.open(os.devnull, os.O_RDWR)
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


@contextmanager
def one_line_if_full() -> Iterator[None]:
    """End with 1 and one line on stderr if standard output takes no more, instead of a traceback."""
    try:
        yield
    except OSError as error:
        # Errors of files have their names; commands report them.
        if error.errno not in FULL or error.filename is not None:
            raise
        # The interpreter writes what is left at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
        sys.exit(1)


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
