"""The curves of growth as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WALL: Final = "#0b6e4f"
CPU: Final = "#1f77b4"
TITLES: Final = {
    "partitions": "Partitions (logins only; 8 = 1)",
    "workers": "Workers",
    "days": "Days kept",
    "labels": "Realms, and as many clients",
    "users": "Users (dotted: equally likely)",
}


def draw(found: dict[str, Any], path: Path) -> None:
    """A panel for each axis, events/s in shares of the default's, and one of memory."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "authtally", "font.size": 9}):
        figure = Figure(figsize=(9.5, 6), layout="constrained")
        panels = list(figure.subplots(2, 3).flat)
        for axes, (axis, title) in zip(panels, TITLES.items(), strict=False):
            for name, line in ((axis, "-"), (f"{axis}, Zipf", "-"), (f"{axis}, uniform", ":")):
                _lines(axes, [row for row in found["points"] if row["axis"] == name], line)
            axes.axhline(1, color="#8d8d8d", linewidth=0.8)
            axes.set_ylim(bottom=0)
            axes.set_title(title, loc="left")
        panels[0].legend(frameon=False)
        for axes in (panels[0], panels[3]):
            axes.set_ylabel("events per second / default's")
        _memory(panels[5], found)
        for axes in panels:
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _lines(axes: Axes, rows: Sequence[dict[str, Any]], line: str) -> None:
    if not rows:
        return
    x = [row["x"] for row in rows]
    for kind, label, colour in (("ratio", "of wall time", WALL), ("cpu_ratio", "of CPU time", CPU)):
        axes.plot(x, [row[kind] for row in rows], line, marker="o", markersize=3.5, color=colour, label=label)
    if x[-1] > 2:
        axes.set_xscale("log")
    if x[-1] <= 1_000:
        axes.set_xticks(x, [f"{number:,}" for number in x])
        axes.minorticks_off()


def _memory(axes: Axes, found: dict[str, Any]) -> None:
    events, held = zip(*found["rss"]["curve"], strict=True)
    axes.plot([number / 1e6 for number in events], [size / 1e6 for size in held], color=WALL, linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("million events")
    axes.set_title("Memory of the worker, MB", loc="left")
