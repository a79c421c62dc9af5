"""`docs/api/documents.md`: the table of all statements. `python -m tests.api.documents.page` writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.api.documents import auth0, gluu, janssen, linotp
from tests.api.documents.statement import Statement

PAGE: Final = Path(__file__).parents[3] / "docs" / "api" / "documents.md"

DOCUMENTS: Final[dict[str, tuple[str, Sequence[Statement]]]] = {
    "janssen": ("Janssen: Auth Server, reporting (Markdown source and the page of its site)", janssen.STATEMENTS),
    "gluu": ("Gluu Server 4: Active User Metrics", gluu.STATEMENTS),
    "auth0": ("Auth0: Monitoring Auth0 Tenant Quota Usage and Statistics", auth0.STATEMENTS),
    "linotp": ("LinOTP manual: 1.17.2 Reporting", linotp.STATEMENTS),
}

HEAD: Final = """\
# The products' documents, statement by statement

Each row is a statement, a request line or a sample of a product's own document, and a test (`tests/api/documents`). The
verdict *as documented* means that the default shape answers as the document says; *as the product*, as the product does
where it differs from its document or the document is silent; *differs* gives the reason. The pages on
[Janssen and Gluu](janssen-gluu.md), [Auth0](auth0.md) and [LinOTP](linotp.md) explain the surfaces, and
[decision 007](../decisions/007-documented-shape-default.md) the two shapes.
"""


def rendered() -> str:
    parts = [HEAD]
    counts = Counter[str]()
    for title, statements in DOCUMENTS.values():
        parts.append(f"\n## {title}\n\n| statement | authtally |\n|---|---|\n")
        for statement in statements:
            counts[statement.verdict] += 1
            verdict = f"*{statement.verdict}*" + (f": {statement.why}" if statement.why else "")
            parts.append(f"| {_cell(statement.text)} | {_cell(verdict)} |\n")
    total = ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items()))
    parts.insert(1, f"\n{counts.total()} statements: {total}.\n")
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
