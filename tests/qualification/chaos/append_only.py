"""Reads the store's append-only files."""

from __future__ import annotations

from collections.abc import Iterator


def commands(text: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """The commands of a file, each with the byte after it, up to the first that is not whole and well-formed."""
    at = 0
    while at < len(text):
        if text.startswith(b"#", at):  # a time stamp
            at = text.find(b"\r\n", at) + 2
            if at == 1:
                return
            continue
        count, at = _number(text, at, b"*")
        words: list[bytes] = []
        for _ in range(count):
            size, at = _number(text, at, b"$")
            if size < 0 or text[at + size : at + size + 2] != b"\r\n":
                return
            words.append(text[at : at + size])
            at += size + 2
        if count < 1:
            return
        yield at, words


def _number(text: bytes, at: int, sign: bytes) -> tuple[int, int]:
    """The number behind a sign, and the offset after its line; -1 if there is none."""
    end = text.find(b"\r\n", at, at + 32)
    if end < 0 or not text.startswith(sign, at) or not text[at + 1 : end].isdigit():
        return -1, at
    return int(text[at + 1 : end]), end + 2
