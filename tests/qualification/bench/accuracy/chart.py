"""The curves as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.qualification.bench.accuracy.grid import EXACT_UP_TO, GOALS, JAVA, MONTHS, ON_THE_WAY, OTHERS, PACKAGE

COLOURS: Final = {MONTHS: "#0b6e4f", OTHERS: "#1f77b4", JAVA: "#c1292e", PACKAGE: "#8d8d8d"}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Above the error of each arm, below ours in shares of java-hll's with 95 % intervals and goals."""
    # Text as text, and the same file for the same figures.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "authtally", "font.size": 10}):
        figure = Figure(figsize=(9, 8.5), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for arm, colour in COLOURS.items():
            # The first number of users whose registers are drawn joins the last one of the real runs.
            for source, line in (("real", "-"), ("drawn", "--")):
                points = [
                    (row["users"], 100 * row["rmse"][arm])
                    for row in rows
                    if arm in row["rmse"]
                    and (row["way"] == source or (source == "drawn" and row["users"] == ON_THE_WAY[-1]))
                ]
                if len(points) > 1:
                    label = arm if source == "real" else None
                    above.plot(*zip(*points, strict=True), line, color=colour, label=label, linewidth=1.6)
        above.set_ylabel("root mean square error, % of users")
        above.set_ylim(bottom=0)
        above.legend(frameon=False)
        above.set_title("Error of the estimate (dashed: registers drawn from their distribution)", loc="left")

        for arm in (MONTHS, OTHERS):
            points = [(row["users"], *row["ratio"][arm]) for row in rows if row["ratio"].get(arm)]
            users, middle, low, high = zip(*points, strict=True)
            below.plot(users, middle, color=COLOURS[arm], label=arm, linewidth=1.6)
            below.fill_between(users, low, high, color=COLOURS[arm], alpha=0.2, linewidth=0)
        for goal in GOALS:
            colour = COLOURS[goal.arm]
            if goal.least == goal.most:
                below.plot(goal.least, goal.ratio, marker="v", color=colour, markersize=7, linestyle="none")
            else:
                below.hlines(goal.ratio, goal.least, goal.most, color=colour, linestyle=":", linewidth=1.2)
        below.set_ylabel("ours / java-hll (dotted, ▼: goals)")
        below.set_ylim(0, 1)
        below.set_xlabel("users")
        below.legend(frameon=False)
        for axes in (above, below):
            axes.set_xscale("log")
            axes.set_xlim(rows[0]["users"], rows[-1]["users"])
            axes.axvspan(1, EXACT_UP_TO, color="#0b6e4f", alpha=0.07, linewidth=0)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        above.text(1.2, above.get_ylim()[1] * 0.93, "ours is exact")
        figure.savefig(path, format="svg", metadata={"Date": None})
