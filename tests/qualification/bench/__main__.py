"""`make bench`: speed, scale and accuracy, measured side by side on real servers.

Ends with 1 when a goal is missed or a part fails; a failed part ends no other. Figures go to JSON, curves to SVG.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.qualification.bench import (
    api_speed,
    day,
    dedupe,
    growth,
    ingest_speed,
    inventory,
    load,
    merged_periods,
    popular,
    regions,
    token_flood,
    worker_speed,
)
from tests.qualification.bench.accuracy import measure as accuracy
from tests.qualification.bench.accuracy.chart import draw as draw_accuracy
from tests.qualification.bench.accuracy.show import show as show_accuracy
from tests.qualification.bench.growth_chart import draw as draw_growth

Found = dict[str, Any]


def _worker(quick: bool, console: Console, _: Path) -> Found:
    found = worker_speed.measure(quick, console.print)
    worker_speed.show(found, console)
    return found


def _growth(quick: bool, console: Console, out: Path) -> Found:
    found = growth.measure(quick, console.print)
    points = [
        (row["axis"], f"{row['x']:,}", f"{row['ratio']:.2f}", f"{row['cpu_ratio']:.2f}") for row in found["points"]
    ]
    _table(
        console, "Growth: speed as a share of the default point's", ("axis", "", "events/s", "per CPU second"), points
    )
    late, peak = found["rss"]["ratio"], found["catch_up"]["peak"] / 1e6
    console.print(
        f"RSS at the end against at 40 %: {late:.3f} (goal ≤ {found['rss']['goal']}); catching up: {peak:.0f} MB"
    )
    draw_growth(found, out.with_name(f"{out.stem}-growth.svg"))
    return found


def _api(quick: bool, console: Console, _: Path) -> Found:
    found = api_speed.measure(quick, console.print)
    cold, at_once = found["cold"], found["at_once"]
    rows = [
        (
            f"cached, AUTH={row['auth']}: requests/s against a bare handler",
            row["ratio"],
            f"≥ {row['goal']}",
            row["ratio_met"],
        )
        for row in found["ready"]
    ]
    rows += [
        (f"cached, AUTH={row['auth']}: p99 against it", row["p99_ratio"], f"≤ {row['p99_goal']}", row["p99_met"])
        for row in found["ready"]
    ]
    rows.append(("cold, against its bare store commands", cold["ratio"], f"≤ {cold['goal']}", cold["met"]))
    rows.append((f"computed, {at_once['asked']:,} asking at once", at_once["computed"], "1", at_once["met"]))
    result = [(what, f"{ratio:.2f}", goal, "yes" if met else "no") for what, ratio, goal, met in rows]
    _table(console, "Api: median ratios", ("", "found", "goal", "met"), result)
    return found


def _flood(quick: bool, console: Console, _: Path) -> Found:
    found = token_flood.measure(quick, console.print)
    rows = [
        ("throughput of good tokens against none made up", f"{found['ratio']:.2f}", f"≥ {found['goal']}"),
        (f"{found['tokens']:,} made up, refused", f"{found['refused']:,}", f"{found['tokens']:,}"),
        ("fetches of the keys", str(found["fetches"]), f"≤ {found['fetches_allowed']}"),
    ]
    _table(console, "Made-up tokens", ("", "found", "goal"), rows)
    return found


def _ingest(quick: bool, console: Console, _: Path) -> Found:
    found = ingest_speed.measure(quick, console.print)
    rows = [
        (
            f"{row['size']} a request",
            f"{row['ratio']:.2f} ({min(row['ratios']):.2f} … {max(row['ratios']):.2f})",
            f"{row['cpu_ratio']:.2f}",
            "" if row["goal"] is None else f"≥ {row['goal']}",
            "yes" if row["met"] else "no",
        )
        for row in found["rows"]
    ]
    columns = ("events", "events/s: median ratio (least … most)", "per CPU second", "goal", "met")
    _table(console, "Ingest over HTTP, against a bare handler that only produces", columns, rows)
    return found


def _dedupe(quick: bool, console: Console, _: Path) -> Found:
    found = dedupe.measure(quick, console.print)
    console.print(
        f"Events with ids, each counted once: {found['ratio']:.2f} of the speed without, {found['cpu_ratio']:.2f} per "
        f"CPU second; {found['cpu_s_per_million']:.2f} CPU seconds per million events"
    )
    return found


def _inventory(quick: bool, console: Console, _: Path) -> Found:
    found = inventory.measure(quick, console.print)
    held, goals = found["held"], found["goals"]
    rows = [
        ("states against logins, events/s", f"{found['ratio']:.2f}", f"≥ {found['goal']}"),
        ("the same per CPU second", f"{found['cpu_ratio']:.2f}", ""),
        ("bytes per token beyond its serial", f"{held['bytes_per_token']:.0f}", f"≤ {goals['bytes_per_token']}"),
        ("bytes per event and realm", f"{held['bytes_per_row']:.1f}", f"≤ {goals['bytes_per_row']}"),
        ("script, mean ms", f"{found['scripts']['mean_ms']:.2f}", f"≤ {goals['script_ms']:g}"),
    ]
    _table(console, "OTP token inventory", ("", "found", "goal"), rows)
    return found


def _load(quick: bool, console: Console, _: Path) -> Found:
    found = load.measure(quick, console.print)
    rows = [
        (
            row["name"],
            ", ".join(f"{number} × {status}" for status, number in sorted(row["statuses"].items())),
            f"{row['peak_bytes'] / 2**20:.0f}",
            f"{row['callback_ms']:.0f}",
            f"{row['p99_ratio']:.1f}",
            "yes" if row["met"] else "no",
        )
        for row in found["rows"]
    ]
    columns = ("question", "answers", "peak MiB", "longest callback, CPU ms", "p99 of another caller, × idle", "met")
    _table(console, f"The widest question of each route, by {found['callers']} callers at once", columns, rows)
    return found


def _merged(quick: bool, console: Console, _: Path) -> Found:
    found = merged_periods.measure(quick, console.print)
    rows = [
        (
            row["question"],
            f"Cluster of {merged_periods.PRIMARIES}" if row["cluster"] else "one server",
            row["which"],
            f"{row['store_ms']:.1f}",
            f"{row['wall_ms']:.0f}",
            f"{row['sent'] / 1e6:.2f}",
        )
        for row in found["rows"]
    ]
    columns = ("question", "", "merged", "store, CPU ms", "wall ms", "MB to and from the store")
    _table(console, "Closed months in 64 shards", columns, rows)
    tokens = found["tokens"]
    goals = [
        ("second answer, store's CPU ms", f"{found['second_ms']:.1f}", f"≤ {found['second_goal_ms']:g}"),
        ("second answer in the Cluster, bytes", f"{found['bytes_ratio']:.4f}", f"≤ {found['bytes_goal']:g}"),
        ("events per CPU second with tokens", f"{tokens['ratio']:.3f}", f"≥ {tokens['goal']:g}"),
    ]
    _table(console, "Goals", ("", "found", "goal"), goals)
    return found


def _popular(quick: bool, console: Console, _: Path) -> Found:
    found = popular.measure(quick, console.print)
    rows = [
        (
            row["name"],
            which,
            ", ".join(f"{number} × {status}" for status, number in sorted(round_["statuses"].items())),
            f"{round_['api_ms']:.0f}",
            f"{round_['store_ms']:.0f}",
            f"{round_['sent'] / 1e6:.2f}",
            f"{row['callback_ms']:.0f}",
            f"{row['peak_bytes'] / 2**20:.0f}",
        )
        for row in found["rows"]
        for which, round_ in zip(("first", "second"), row["rounds"], strict=True)
    ]
    columns = (
        "questions",
        "",
        "answers",
        "api, CPU ms",
        "store, CPU ms",
        "MB from the store",
        "callback ms",
        "peak MiB",
    )
    _table(console, "Popular questions", columns, rows)
    return found


def _day(quick: bool, console: Console, _: Path) -> Found:
    return day.measure(quick, console.print)


def _regions(quick: bool, console: Console, _: Path) -> Found:
    found = regions.measure(quick, console.print)
    rows = [
        (
            row["name"],
            f"{row['answers']:,}",
            f"{row['median_ms']:.0f}",
            f"{row['p99_ms']:.0f}",
            f"{row['refused']:.1%}",
            f"{row['complete']:.0%}",
        )
        for row in found["rows"]
    ]
    columns = ("", "answers", "median ms", "p99 ms (goal ≤ 2,000)", "503 (goal ≤ 5 %)", "complete")
    _table(console, f"{found['clients']} clients on the dashboard of {found['regions']} regions", columns, rows)
    return found


def _accuracy(quick: bool, console: Console, out: Path) -> Found:
    size = accuracy.QUICK if quick else accuracy.FULL
    found = asyncio.run(accuracy.measure(size, console.print, pipeline=True))
    show_accuracy(found, console)
    draw_accuracy(found["grid"], out.with_name(f"{out.stem}-accuracy.svg"))
    return found


def _table(console: Console, title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console.print(table)


PARTS: Final[dict[str, Callable[[bool, Console, Path], Found]]] = {
    "worker": _worker,
    "api": _api,
    "dedupe": _dedupe,
    "ingest": _ingest,
    "flood": _flood,
    "inventory": _inventory,
    "load": _load,
    "merged": _merged,
    "popular": _popular,
    "day": _day,
    "regions": _regions,
    "growth": _growth,
    "accuracy": _accuracy,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small samples and few runs: minutes instead of an hour")
    parser.add_argument("--only", default=",".join(PARTS), help="some of: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("bench-figures.json"), help="the figures; curves lie beside")
    given = parser.parse_args()
    asked = given.only.split(",")
    if unknown := set(asked) - set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    found: dict[str, Found] = {}
    for part in asked:
        began = time.monotonic()
        try:
            found[part] = PARTS[part](given.quick, console, given.out)
        except Exception as error:  # noqa: BLE001
            console.print_exception()
            found[part] = {"met": False, "error": repr(error)}
        console.print(f"{part}: {time.monotonic() - began:.0f} s, goals {'met' if found[part]['met'] else 'missed'}")
        given.out.write_text(json.dumps(found, indent=2))
    sys.exit(0 if all(part["met"] for part in found.values()) else 1)


if __name__ == "__main__":
    main()
