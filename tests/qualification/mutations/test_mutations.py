"""The data of the mutations fits the sources: each text is found once, and each named test exists."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.qualification.mutations.catalogue import MUTATIONS
from tests.qualification.mutations.mutation import Mutation, StaleTextError
from tests.qualification.mutations.trees import ROOT


@cache
def functions(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: f"{each.case}: {each.why}")
def test_a_mutation_fits_the_sources(mutation: Mutation) -> None:
    mutated = mutation.text(ROOT)
    if mutation.file.endswith(".py"):
        ast.parse(mutated)
    file, _, name = mutation.test.partition("::")
    assert name.partition("[")[0] in functions(ROOT / file), mutation.test


def test_no_two_mutations_are_equal() -> None:
    assert len({(each.file, each.old, each.new) for each in MUTATIONS}) == len(MUTATIONS)


def test_a_text_that_occurs_twice_or_never_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("a\nb\nb\n")
    for old in ("b", "c"):
        with pytest.raises(StaleTextError, match="must occur once"):
            Mutation("", "", "some.py", old, "", "").text(tmp_path)
    assert Mutation("", "", "some.py", "a", "z", "").text(tmp_path) == "z\nb\nb\n"
