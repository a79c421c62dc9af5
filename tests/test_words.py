"""Plain words: neither an identifier nor a sentence of this repository uses one of UNWANTED (docs/contributing.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("aggregator", "api", "deploy", "docs", "schemas", "tests")
BESIDE: Final = ("Makefile", "pyproject.toml", ".ci/run", ".pre-commit-config.yaml", ".github")

SUFFIXES: Final = {
    *(".py", ".lua", ".js", ".yaml", ".yml", ".md", ".toml", ".sh", ".html", ".css", ".conf", ".java", ".jython"),
    *(".ts", ".mjs", ".go"),
    *(".c", ".sql", ".acl", ".env", ".service", ".timer", ".caddy"),
}
"""Files written by hand. Recorded data, generated schemas, lock files and the licence have other suffixes."""
FILES_WITHOUT_SUFFIX: Final = {"Makefile", "Dockerfile", "run"}

UNWANTED: Final = {
    **dict.fromkeys(("tell", "tells", "told", "telling"), "return, answer, log, report, distinguish"),
    **dict.fromkeys(("hear", "hears", "heard"), "receive, read"),
    **dict.fromkeys(("mend", "mends", "mended", "mending"), "fix, repair"),
    **dict.fromkeys(("reckon", "reckons", "reckoned", "reckoning"), "compute, estimate, calculate"),
    **dict.fromkeys(("whoever", "whosoever"), "the caller, the user, anyone who"),
    **dict.fromkeys(("weakness", "weaknesses"), "vulnerability"),
    **dict.fromkeys(("look at", "looks at", "looked at", "looking at"), "read, check, inspect"),
    "for want of": "because … is missing",
    "has to be": "must be",
    "nobody": "no one, or the noun: no user, no caller",
    "for ever": "forever",
    "what comes": "the noun",
    "goes on": "continues",
}
"""Each word or phrase, with those to choose from instead."""

QUOTED: Final = (
    r"(?P<quote>[\"'])nobody(?P=quote)",  # The name of a user that does not exist.
    r"\.tell\(",  # Python's position in a file.
    r"USER=?\s*nobody|nobody:nogroup|nobody:x:",  # The account of Unix.
    r"[\w.]+\.nobody\b|nobody\.(?=\w)|nobody-(?=\w)|=nobody\b|_nobody\b|\bnobody_",  # A part of a name in test data.
)
"""Text that is no sentence of ours."""

# A space of a phrase also stands for an underscore, and for a line break with the next line's comment sign.
GAP: Final = r"(?:[ _]|[ \t]*\n[ \t]*(?:#+ |//+ |\*+ |--+ )?)"
PATTERN: Final = re.compile(
    rf"(?:{'|'.join(QUOTED)})"
    r"|(?<![A-Za-z])(?P<word>" + "|".join(re.escape(each).replace(r"\ ", GAP) for each in UNWANTED) + ")(?![a-z])",
    re.IGNORECASE,
)
CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")
GENERATED: Final = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)


def unwanted(text: str) -> Iterator[tuple[int, str]]:
    """Line number and word of every unwanted word. Words in `snake_case` and `CamelCase` are found too."""
    # Generated parts come from code that is checked itself; blank lines in their place keep the line numbers.
    text = GENERATED.sub(lambda part: "\n" * part[0].count("\n"), text)
    spaced = CAMEL.sub("_", text)
    for match in PATTERN.finditer(spaced):
        if match["word"]:
            yield spaced.count("\n", 0, match.start()) + 1, " ".join(re.findall("[a-z]+", match["word"].lower()))


def paths(place: str) -> Iterator[Path]:
    start = ROOT / place
    for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
        written = path.suffix in SUFFIXES or path.name in FILES_WITHOUT_SUFFIX
        if path.is_file() and written and path != Path(__file__):
            yield path


def places() -> list[str]:
    pages = sorted(path.name for path in ROOT.glob("*.md"))
    return [*FOLDERS, *BESIDE, *pages]


@pytest.mark.parametrize("place", places())
def test_only_plain_words_are_used(place: str) -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{line}: {word!r}; better: {UNWANTED[word]}"
        for path in paths(place)
        for line, word in unwanted(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "found", "why"),
    [
        ("what it told", [(1, "told")], "a word of a sentence"),
        ("\nTells", [(2, "tells")], "the second line, any case"),
        ("as_told(x)", [(1, "told")], "a part of an identifier"),
        ("class StateToldExporter", [(1, "told")], "a part of a class name"),
        ("# goes\n    # on", [(1, "goes on")], "a phrase over two lines of a comment"),
        ("kept for\never", [(1, "for ever")], "a phrase over two lines"),
        ("for_ever", [(1, "for ever")], "a phrase in an identifier"),
        ("nobody knows", [(1, "nobody")], "no one"),
        ('a user "nobody"', [], "a name in quotes"),
        ("/show?realms=nobody", [], "a name in a request"),
        ("file.tell() and tell()", [(1, "tell")], "Python's name of a method"),
        ("intolduring, mender, shear, amend, recommend, forever", [], "parts of other words"),
        ("<!-- generated: x -->\ntold\n<!-- end -->\ntold", [(4, "told")], "generated from text that is checked"),
    ],
)
def test_a_word_is_found_where_it_stands(text: str, found: list[tuple[int, str]], why: str) -> None:
    assert list(unwanted(text)) == found, why
