"""The tab Lifecycle: its figures are those of a plain count, with their errors, filters, choices, keys and failures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

import pytest
from playwright.async_api import Browser, expect

from schemas.ledger.periods import Month, Span
from tests.dashboard import lifecycles
from tests.dashboard.conftest import Look
from tests.dashboard.queries import PageProbe, fresh, narrow
from tests.dashboard.sample import TODAY
from tests.dashboard.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

TAB: Final = "tab=lifecycle"


class View(NamedTuple):
    first: date
    last: date
    by: str
    filters: Mapping[str, str] = MappingProxyType({})


VIEWS: Final = {
    "": View(date(2026, 10, 22), TODAY, "week"),
    "range=90d": View(date(2026, 8, 23), TODAY, "week"),
    "range=12m": View(date(2025, 12, 1), TODAY, "month"),
    # Asked in pieces.
    "range=12m&by=week": View(date(2025, 12, 1), TODAY, "week"),
    "range=90d&by=month": View(date(2026, 8, 23), TODAY, "month"),
    "from=2026-10-07&to=2026-11-03": View(date(2026, 10, 7), date(2026, 11, 3), "week"),
    "range=90d&realm=acme": View(date(2026, 8, 23), TODAY, "week", {"realm": "acme"}),
    "range=12m&realm=globex&client_id=app": View(
        date(2025, 12, 1), TODAY, "month", {"realm": "globex", "client_id": "app"}
    ),
    # The first counted days: kinds of users are not known in them.
    "from=2025-10-01&to=2025-12-31&by=month": View(date(2025, 10, 1), date(2025, 12, 31), "month"),
}


def shown_as(figure: float | None) -> str:
    return "–" if figure is None else str(figure)


@pytest.mark.parametrize("query", VIEWS)
async def test_kinds_of_users_are_those_of_a_plain_count(shown: PageProbe, query: str) -> None:
    view = VIEWS[query]
    await shown.view(f"/?{TAB}&compare=none&{query}")
    head, rows = await shown.table("lifecycle")
    assert head[3::2] == ["Active", "Returning", "Reactivated", "New", "Lapsed"]
    spans = lifecycles.periods(view.first, view.last, view.by)
    assert [row[:3] for row in rows] == [[name, f"{span.first}", f"{span.last}"] for name, span in spans.items()]
    for row, span in zip(rows, spans.values(), strict=True):
        kinds = lifecycles.kinds(span, view.by, view.filters)
        assert row[3::2] == [
            shown_as(each) for each in (kinds.active, kinds.returning, kinds.reactivated, kinds.new, kinds.lapsed)
        ], row[0]
        assert set(row[4::2]) == {"exact"} | ({"–"} if kinds.new is None else set()), row[0]
    hint = await shown.chart("lifecycle").locator(".hint").inner_text()
    assert hint.endswith(f", by {view.by}")


@pytest.mark.parametrize("cohort", ["all", "new"])
@pytest.mark.parametrize("query", ["range=90d", "range=12m", "range=90d&realm=acme"])
async def test_retention_is_that_of_a_plain_count(shown: PageProbe, query: str, cohort: str) -> None:
    view = VIEWS[query]
    await shown.view(f"/?{TAB}&cohort={cohort}&{query}")
    spans = lifecycles.periods(view.first, view.last, view.by).values()
    wanted = lifecycles.shares(spans, view.filters, new=cohort == "new")
    cells = (
        await shown.chart("retention")
        .locator(".heat-scroll tbody tr")
        .evaluate_all(
            """rows => rows.map(row => [Number(row.cells[1].dataset.value),
            [...row.querySelectorAll("[data-row]")].map(
                cell => cell.dataset.value === undefined ? null : Number(cell.dataset.value))])"""
        )
    )
    assert [number for number, _ in cells] == [number for number, _ in wanted]
    for (_, found), (_, expected) in zip(cells, wanted, strict=True):
        assert found == [each if each is None else pytest.approx(each, abs=1e-6) for each in expected]
    # The table below has a line per cell, with the same shares.
    _, rows = await shown.table("retention")
    assert [row[7] for row in rows] == [
        "–" if each is None else pytest_text(each) for _, found in cells for each in found
    ]
    assert {row[8] for row in rows} <= {"exact", "–"}


def pytest_text(share: float) -> str:
    """A number as JavaScript writes it."""
    return f"{share:g}" if share in (0, 1) else repr(share)


COMPARED: Final[dict[str, tuple[int, Callable[[Span], date]]]] = {
    # As many weeks directly before: no week is compared with itself.
    "range=30d": (5, lambda span: span.first - timedelta(weeks=5)),
    "range=7d&compare=year": (2, lambda span: span.first - timedelta(weeks=52)),
    "range=90d&by=month": (4, lambda span: Month.of(span.first).plus(-4).span.first),
    "range=90d&by=month&compare=year": (4, lambda span: Month.of(span.first).plus(-12).span.first),
}


@pytest.mark.parametrize("query", COMPARED)
async def test_periods_are_compared_with_whole_ones(shown: PageProbe, query: str) -> None:
    number, other = COMPARED[query]
    by = "month" if "month" in query else "week"
    await shown.view(f"/?{TAB}&{query}")
    head, rows = await shown.table("lifecycle")
    assert len(rows) == number
    place = head.index("Compared period")
    spans = lifecycles.periods(date.fromisoformat(rows[0][1]), date.fromisoformat(rows[-1][1]), by)
    for row in rows:
        start = other(spans[row[0]])
        (name, span), *_ = lifecycles.periods(start, start, by).items()
        kinds = lifecycles.kinds(span, by, {})
        assert [row[place], row[place + 1], row[place + 3]] == [name, str(kinds.active), shown_as(kinds.new)]
    hint = shown.chart("lifecycle").locator(".hint")
    await expect(hint).to_contain_text("dotted: active users of ")


async def test_a_comparison_that_is_no_longer_kept_says_so(shown: PageProbe) -> None:
    """Weeks need their days, and lapsed users those of the week before."""
    await shown.view(f"/?{TAB}&range=30d&compare=year")
    await expect(shown.chart("lifecycle").locator(".hint")).to_contain_text("no comparison: ")
    await expect(shown.chart("lifecycle").locator(".hint")).to_contain_text("RETAIN_DAYS")
    await expect(shown.page.locator("#figure-new .change")).to_have_text("no comparison")
    assert await shown.value("new") is not None


@pytest.mark.parametrize(
    ("query", "by", "before"),
    [
        ("range=30d", "week", date(2026, 11, 2)),
        ("range=12m", "month", date(2026, 9, 1)),
        ("range=12m&compare=year", "month", date(2025, 10, 1)),
    ],
)
async def test_the_tiles_are_of_the_last_whole_period(shown: PageProbe, query: str, by: str, before: date) -> None:
    await shown.view(f"/?{TAB}&{query}")
    day = date(2026, 11, 9) if by == "week" else date(2026, 10, 1)
    ((_, span),) = lifecycles.periods(day, day, by).items()
    ((_, other),) = lifecycles.periods(before, before, by).items()
    now, then = lifecycles.kinds(span, by, {}), lifecycles.kinds(other, by, {})
    for name in ("new", "returning", "reactivated", "lapsed"):
        assert await shown.value(name) == getattr(now, name), name
        assert await shown.before(name) == getattr(then, name), name
    heading = await shown.page.locator("#figure-new h3").inner_text()
    assert narrow(heading) == ("New, 9–15 Nov 2026" if by == "week" else "New in Oct 2026")


async def test_choices_are_in_the_address(look: Look, site: Site) -> None:
    page = await look(site, f"/?{TAB}")
    await page.drawn()
    choices = page.page.locator("#lifecycle-choices")
    await expect(choices.get_by_role("button", name="Week")).to_have_attribute("aria-pressed", "true")
    await choices.get_by_role("button", name="Month").click()
    await expect(page.page).to_have_url(f"{site.url}/?by=month&tab=lifecycle")
    await choices.get_by_role("button", name="New users").click()
    await expect(page.page).to_have_url(f"{site.url}/?by=month&cohort=new&tab=lifecycle")
    await page.page.reload()
    await page.drawn()
    assert [row[0] for row in (await page.table("lifecycle"))[1]] == ["2026-10", "2026-11"]
    await expect(page.chart("retention").locator(".hint")).to_contain_text("of the users new in each month")
    await page.page.go_back()
    await expect(choices.get_by_role("button", name="All users")).to_have_attribute("aria-pressed", "true")
    await page.page.locator("#reset").click()
    await expect(page.page).to_have_url(f"{site.url}/?{TAB}")


@pytest.mark.parametrize("query", ["by=day&cohort=x", "by=&cohort="])
async def test_choices_that_make_no_sense_are_the_default(shown: PageProbe, query: str) -> None:
    await shown.view(f"/?{TAB}&{query}")
    pressed = shown.page.locator("#lifecycle-choices [aria-pressed=true]")
    await expect(pressed).to_have_text(["Week", "All users"])


async def test_a_bar_sets_the_days_of_its_period(shown: PageProbe) -> None:
    await shown.view(f"/?{TAB}&range=12m")
    plot = shown.chart("lifecycle").locator(".plot")
    await plot.focus()
    await plot.press("ArrowLeft")
    await plot.press("ArrowLeft")
    await expect(shown.page.locator("#spoken")).to_contain_text("Oct 2026: Returning")
    await expect(shown.page.locator("#spoken")).to_contain_text("Lapsed")
    await plot.press("Enter")
    await expect(shown.page).to_have_url(f"{shown.site.url}/?from=2026-10-01&to=2026-10-31&{TAB}")
    await shown.drawn()
    await expect(shown.chart("lifecycle").locator(".legend")).not_to_contain_text("not over")


async def test_arrow_keys_move_through_the_heat_map(shown: PageProbe) -> None:
    await shown.view(f"/?{TAB}&range=12m")
    chart = shown.chart("retention")
    first = chart.locator("[data-row][tabindex='0']")
    await expect(first).to_have_count(1)
    await first.focus()
    label = str(await first.get_attribute("aria-label"))
    await expect(chart.locator(".readout")).to_have_text(label)
    for key, place in (("ArrowDown", (1, 0)), ("ArrowRight", (1, 1)), ("ArrowUp", (0, 1)), ("ArrowLeft", (0, 0))):
        await shown.page.keyboard.press(key)
        cell = chart.locator(f"[data-row='{place[0]}'][data-column='{place[1]}']")
        await expect(cell).to_be_focused()
        await expect(chart.locator(".readout")).to_have_text(str(await cell.get_attribute("aria-label")))
    await expect(chart.locator("[data-row][tabindex='0']")).to_have_count(1)
    # The sentence states the figures, the period, and how exact they are.
    sep, oct_ = (lifecycles.users(Month(2026, month).span, {}) for month in (9, 10))
    cell = chart.locator("tr", has_text="Sept 2026").locator("[data-row]").first
    both = len(sep & oct_)
    await cell.hover()
    await expect(chart.locator(".readout")).to_contain_text(f"Sept 2026: {both} of {len(sep)} users (")
    await expect(chart.locator(".readout")).to_contain_text("exact) were active 1 month later, in Oct 2026")


async def test_a_limit_of_the_figures_is_in_words(shown: PageProbe) -> None:
    await shown.view(f"/?{TAB}&from=2025-10-01&to=2025-12-31&by=month")
    legend = shown.chart("lifecycle").locator(".legend")
    await expect(legend).to_contain_text("New: not active between 15 Oct 2025 (the first counted day) and the period.")
    await expect(legend).to_contain_text("Kinds are unknown in Oct 2025: no users before are known.")
    await shown.view(f"/?{TAB}&range=12m&cohort=new")
    await expect(shown.chart("retention").locator(".legend")).to_contain_text("15 Oct 2025 (the first counted day)")


async def test_the_figures_download(shown: PageProbe) -> None:
    await shown.view(f"/?{TAB}&range=12m&realm=acme&compare=none")
    async with shown.page.expect_download() as started:
        await shown.page.locator("#view-csv").click()
    download = await started.value
    assert download.suggested_filename == "authtally-lifecycle-2025-12-01-2026-11-20.csv"
    rows = list(csv.DictReader(io.StringIO((await download.path()).read_bytes().decode("utf-8-sig"), newline="")))
    kinds = lifecycles.kinds(Month(2026, 10).span, "month", {"realm": "acme"})
    found = {row["column"]: row["value"] for row in rows if row["row"] == "2026-10 / 2026-10-01 / 2026-10-31"}
    assert (found["New"], found["Lapsed"], found["New: standard error"]) == (str(kinds.new), str(kinds.lapsed), "exact")
    assert {row["realm"] for row in rows} == {"acme"}
    assert "Retention" in {row["part"] for row in rows}
    header, *cells = await chart_csv(shown, "retention")
    assert header[:3] == ["period", "age", "age_period"]
    assert cells[0][:3] == ["2025-12", "1", "2026-01"]
    async with shown.page.expect_download() as picture:
        await shown.chart("retention").locator("button.png").click()
    content = (await (await picture.value).path()).read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) > 5_000


async def chart_csv(page: PageProbe, name: str) -> list[list[str]]:
    async with page.page.expect_download() as started:
        await page.chart(name).locator("button.csv").click()
    content = (await (await started.value).path()).read_bytes().decode("utf-8-sig")
    return list(csv.reader(io.StringIO(content, newline="")))


async def test_too_few_periods_for_retention_say_so(shown: PageProbe) -> None:
    await shown.view(f"/?{TAB}&range=month&by=month")
    chart = shown.chart("retention")
    await expect(chart).to_have_attribute("data-state", "empty")
    await expect(chart.locator(".note")).to_contain_text("Retention needs at least two months")
    await expect(shown.chart("lifecycle")).to_have_attribute("data-state", "ready")


async def test_days_without_users_name_the_newest_events_day(shown: PageProbe) -> None:
    await shown.view(f"/?{TAB}&from=2026-02-01&to=2026-03-31&realm=acme")
    for name in ("lifecycle", "retention"):
        await expect(shown.chart(name)).to_have_attribute("data-state", "empty")
    await expect(shown.page.locator("#older")).to_contain_text("The newest event is of 20 Nov 2026.")


async def test_a_client_that_is_not_kept_names_the_setting(look: Look, site: Site) -> None:
    async with Site(site.redis_url, users_by=("realm",), counts_by=("realm", "client")) as served:
        page = await look(served, f"/?{TAB}&client_id=web")
        await page.ready()
        for part in (page.chart("lifecycle"), page.chart("retention"), page.page.locator("#figure-new")):
            await expect(part).to_have_attribute("data-state", "unkept")
            await expect(part.locator(".note")).to_contain_text("USERS_BY")
            assert await part.locator("[data-value]").count() == 0


CONTRAST: Final = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, of, place) => sum + of * linear(rgb[place] / 255), 0);
    const cell = document.querySelector("#chart-retention td[data-step]");
    return Array.from({ length: 8 }, (_, step) => {
        cell.dataset.step = String(step);
        const style = getComputedStyle(cell);
        const [one, other] = [light(parse(style.color)), light(parse(style.backgroundColor))];
        return { contrast: (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), ground: other };
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_colour_is_readable_and_the_scale_is_one_of_lightness(
    browser: Browser, site: Site, scheme: str
) -> None:
    """Lightness alone orders the steps, so every kind of colour vision can."""
    async with fresh(browser, color_scheme=scheme) as context, PageProbe.opened(context, site) as page:
        await page.go(f"/?{TAB}&range=12m")
        await page.drawn()
        steps = await page.page.evaluate(CONTRAST)
        assert all(step["contrast"] >= 4.5 for step in steps), steps
        grounds = [step["ground"] for step in steps]
        assert grounds == sorted(grounds, reverse=scheme == "light")
        assert len(set(grounds)) == 8


async def test_the_heat_map_scrolls_within_a_telephone(look: Look, site: Site) -> None:
    page = await look(site, f"/?{TAB}&range=12m", viewport={"width": 380, "height": 800})
    await page.drawn()
    assert await page.page.evaluate("document.documentElement.scrollWidth") <= 380
    grid = page.chart("retention").locator(".heat-scroll")
    last = grid.locator("[data-row='0']").last
    await last.focus()
    await expect(last).to_be_in_viewport()
    head = grid.locator("tbody tr").first.locator("th")
    box, cell = await head.bounding_box(), await last.bounding_box()
    assert box is not None
    assert cell is not None
    # The name of the cohort stays beside its figures.
    assert 0 <= box["x"] < cell["x"]
