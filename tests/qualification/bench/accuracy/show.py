"""The figures as tables."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.qualification.bench.accuracy.grid import ARMS, JAVA, MONTHS, OTHERS, PACKAGE

WIDTH: Final = 132
"""Least columns, for where output goes to a file."""


def show(found: dict[str, Any], console: Console) -> None:
    console = Console(file=console.file, width=max(console.width, WIDTH), soft_wrap=True)
    if found["documents"]:
        console.print(_documents(found["documents"], found["java_hll_bytes"]))
    console.print(_errors(found["grid"]))
    console.print(_ratios(found["grid"]))
    console.print(_goals(found["goals"]))
    console.print(_checks(found["checks"]))
    console.print(
        f"PFCOUNT equal to the formula that drawn registers go by: {found['sketches_equal_to_formula']:,} times"
    )
    console.print(_few(found["few"]))
    promotion = found["few"]["promotion"]
    console.print(
        f"4,097 users: {promotion['count']:,} with a standard error of {100 * promotion['standard_error']:.2f} %, "
        f"{promotion['memory']:,} bytes in sketches, {promotion['bytes_left_in_sets']} left in sets; "
        f"a refused range moves {'nothing' if promotion['refused_range_moves_nothing'] else 'SOMETHING'}"
    )
    console.print(_jumps(found["few"]["jumps"]))
    cuttings = found["few"]["cuttings"]
    console.print(
        f"One log cut into ranges of {', '.join(row['ranges_of'] for row in cuttings)}: "
        f"{'the same ledger each time' if found['few']['same_for_any_cutting'] else 'LEDGERS THAT DIFFER'}"
    )
    console.print(_adversary(found["adversary"]))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _percent(value: float) -> str:
    return f"{100 * value:+.3f} %"


def _spread(three: Any) -> str:
    return "–" if three is None else "{:.3f} ({:.3f} … {:.3f})".format(*three)


def _yes(met: bool) -> str:
    return "yes" if met else "NO"


def _documents(found: dict[str, Any], java_bytes: int) -> Table:
    table = _table(
        f"{found['users_per_server']:,} users on each of 10 servers, {found['logins']:,} logins through Kafka and the "
        f"worker (beside it java-hll's published figures for 1,000,000 users each)",
        *("", "ours", "error", "one shard, bytes", f"{found['shards']} shards, bytes", "memory"),
        *("java-hll", "error", "bytes"),
    )
    for row in found["rows"]:
        table.add_row(
            row["name"],
            *(f"{row['count']:,}", _percent(row["error"])),
            *(f"{row['bytes'] // found['shards']:,}", f"{row['bytes']:,}", f"{row['memory']:,}"),
            *(f"{row['documented']:,}", _percent(row["documented_error"]), f"{java_bytes:,}"),
        )
    table.add_row(
        "rmse of servers", "", f"{100 * found['rmse']:.3f} %", "", "", "", "", f"{100 * found['documented_rmse']:.3f} %"
    )
    return table


def _errors(rows: list[dict[str, Any]]) -> Table:
    table = _table(
        f"Root mean square error, % of users ({PACKAGE}: as many registers as {JAVA})",
        *("users", "runs", *ARMS, f"{JAVA} bias"),
    )
    for row in rows:
        errors = [f"{100 * row['rmse'][arm]:.3f}" if arm in row["rmse"] else "" for arm in ARMS]
        bias = f"{100 * row['bias'][JAVA]:+.3f}"
        table.add_row(f"{row['users']:,}", f"{row['runs']:,} {row['way']}", *errors, bias)
    return table


def _ratios(rows: list[dict[str, Any]]) -> Table:
    table = _table(f"Those of ours as shares of {JAVA}'s, with 95 % intervals", "users", MONTHS, OTHERS)
    for row in rows:
        table.add_row(f"{row['users']:,}", *(_spread(row["ratio"][arm]) for arm in (MONTHS, OTHERS)))
    return table


def _goals(goals: list[dict[str, Any]]) -> Table:
    table = _table("Goals for the ratio to java-hll", "arm", "users", "goal", "worst", "at", "met")
    for goal in goals:
        worst = goal["worst"]
        users = f"{goal['least']:,}" + (f" … {goal['most']:,}" if goal["most"] > goal["least"] else "")
        spread = _spread((worst["ratio"], worst["low"], worst["high"]))
        table.add_row(goal["arm"], users, f"≤ {goal['ratio']:.2f}", spread, f"{worst['users']:,}", _yes(goal["met"]))
    return table


def _checks(checks: list[dict[str, Any]]) -> Table:
    table = _table(
        "Drawn registers held against real runs, and the model of java-hll against its published figures",
        *("", "runs", "rmse", "of draws", "rank among draws", "agrees"),
    )
    for check in checks:
        table.add_row(
            *(check["name"], str(check["runs"]), f"{100 * check['rmse']:.3f} %", f"{100 * check['drawn_rmse']:.3f} %"),
            *(f"{100 * check['rank']:.1f} %", _yes(check["met"])),
        )
    return table


def _few(found: dict[str, Any]) -> Table:
    table = _table(
        "Few users of a month, one shard",
        *("users", "exact", "held as", "integers, bytes a user", "memory, bytes", "memory, bytes a user"),
    )
    for size in found["sizes"]:
        table.add_row(
            *(f"{size['users']:,}", _yes(size["exact"]), ", ".join(size["encodings"])),
            *(f"{size['bytes_per_user']:.1f}", f"{size['memory']:,}", f"{size['memory_per_user']:.1f}"),
        )
    return table


def _jumps(jumps: list[dict[str, Any]]) -> Table:
    table = _table(
        "The step from 4,096 users, exact, to 4,097, estimated", "arm", "runs", "rmse", "largest", "stated", "met"
    )
    for jump in jumps:
        figures = [f"{100 * jump[name]:.3f} %" for name in ("rmse", "largest", "standard_error")]
        table.add_row(jump["arm"], f"{jump['runs']:,}", *figures, _yes(jump["met"]))
    return table


def _adversary(found: dict[str, Any]) -> Table:
    plain = found["plain"]
    table = _table(
        f"{found['crafted']:,} crafted ids after honest users, {found['users']:,} in all",
        *("arm", "before", "after", "error", "largest of all", "stated", "met"),
    )
    table.add_row(
        *("PFADD of ids", f"{plain['before']:,}", f"{plain['after']:,}", f"{plain['inflation']:,.0f}-fold"),
        *("", f"> {plain['goal']}-fold", _yes(plain["met"])),
    )
    for arm in found["ours"]:
        table.add_row(
            *(f"{arm['arm']}, {arm['secrets']} secrets", f"{arm['before']:,}", f"{arm['after']:,}"),
            *(f"{100 * arm[name]:.3f} %" for name in ("rmse", "largest", "standard_error")),
            _yes(arm["met"]),
        )
    return table
