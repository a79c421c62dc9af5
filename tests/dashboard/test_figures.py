"""The page's figures are those of the API, for every range, comparison, filter and drill-down."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.async_api import expect

from tests.dashboard import expected
from tests.dashboard.expected import Span, View
from tests.dashboard.queries import PageProbe, narrow
from tests.dashboard.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

LAST_30: Final = Span("2026-10-22", "2026-11-20")
BEFORE_30: Final = Span("2026-09-22", "2026-10-21")
VIEWS: Final = {
    "": View(LAST_30, BEFORE_30),
    "range=7d": View(Span("2026-11-14", "2026-11-20"), Span("2026-11-07", "2026-11-13")),
    "range=90d": View(Span("2026-08-23", "2026-11-20"), Span("2026-05-25", "2026-08-22")),
    "range=12m": View(Span("2025-12-01", "2026-11-20"), Span("2024-12-01", "2025-11-20")),
    "range=month": View(Span("2026-11-01", "2026-11-20"), Span("2026-10-01", "2026-10-20")),
    "range=last-month": View(Span("2026-10-01", "2026-10-31"), Span("2026-09-01", "2026-09-30")),
    "from=2026-10-05&to=2026-10-18": View(Span("2026-10-05", "2026-10-18"), Span("2026-09-21", "2026-10-04")),
    # Longer than the charts' days, and with parts of months at both ends.
    "from=2026-06-10&to=2026-11-05": View(Span("2026-06-10", "2026-11-05"), Span("2026-01-12", "2026-06-09")),
    "compare=year": View(LAST_30, Span("2025-10-22", "2025-11-20")),
    "compare=year&from=2026-11-02&to=2026-11-15": View(
        Span("2026-11-02", "2026-11-15"), Span("2025-11-02", "2025-11-15")
    ),
    "compare=none": View(LAST_30, None),
    "realm=acme": View(LAST_30, BEFORE_30, {"realm": "acme"}),
    "client_id=web&range=7d": View(
        Span("2026-11-14", "2026-11-20"), Span("2026-11-07", "2026-11-13"), {"client_id": "web"}
    ),
    "realm=globex&client_id=app": View(LAST_30, BEFORE_30, {"realm": "globex", "client_id": "app"}),
}


@pytest.mark.parametrize("query", VIEWS)
async def test_the_tiles_are_the_apis_figures(shown: PageProbe, site: Site, query: str) -> None:
    view = VIEWS[query]
    await shown.view(f"/?{query}&tab=tokens")
    for name, value in (await expected.tiles(site, view.span, view.filters)).items():
        assert await shown.value(name) == pytest.approx(value), name
    before = await expected.tiles(site, view.before, view.filters) if view.before else {}
    for name in ("users", "logins", "rate", "signups", "tokens"):
        assert await shown.before(name) == pytest.approx(before.get(name)), name


@pytest.mark.parametrize("query", ["", "range=12m", "from=2026-06-10&to=2026-11-05", "compare=year", "realm=acme"])
async def test_the_charts_add_up_to_the_tiles(shown: PageProbe, site: Site, query: str) -> None:
    """Each chart and its dotted line have the figures of their ranges, whole and parts of months alike."""
    view = VIEWS[query]
    await shown.view(f"/?{query}&tab=logins")
    head, rows = await shown.table("logins")
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    now = await expected.sums(site, "/v1/logins", "succeeded", view.span, view.filters)
    failed = await expected.sums(site, "/v1/logins", "failed", view.span, view.filters)
    assert sum(map(int, columns["Succeeded"])) == now[""]
    assert sum(map(int, columns["Failed"])) == failed[""]
    assert view.before is not None
    before = await expected.sums(site, "/v1/logins", "succeeded", view.before, view.filters)
    dotted = next(values for name, values in columns.items() if name.endswith("succeeded"))
    assert sum(int(value) for value in dotted if value != "–") == before[""]
    reasons = await expected.sums(site, "/v1/logins", "failed", view.span, view.filters, "reason")
    assert await titled_sums(shown, "reasons") == reasons


async def titled_sums(page: PageProbe, name: str) -> dict[str, int]:
    """The sums of a table's columns by their raw names."""
    _, rows = await page.table(name)
    titles = await page.chart(name).locator("table thead bdi").evaluate_all("all => all.map(each => each.title)")
    return {title: sum(int(row[place]) for row in rows) for place, title in enumerate(titles) if place}


async def test_users_over_time_are_the_apis(shown: PageProbe, site: Site) -> None:
    await shown.view("/")
    _, rows = await shown.table("users")
    for place, span in ((1, LAST_30), (4, BEFORE_30)):
        result = await site.get(f"/v1/active-users?{expected.query(span, {})}")
        assert [row[place] for row in rows] == [str(item["value"]) for item in result["items"]]
    overview = await site.get("/v1/overview")
    _, rows = await shown.table("months")
    assert [row[1] for row in rows] == [
        "–" if month["value"] is None else str(month["value"]) for month in overview["months"]
    ]
    await expect(shown.chart("months").locator(".hint")).to_contain_text(f"maximum {overview['billing']['maximum']}")
    _, rows = await shown.table("rolling")
    for column, trailing in ((1, "1"), (3, "7"), (5, "30")):
        result = await site.get(f"/v1/active-users?{expected.query(LAST_30, {}, trailing=trailing)}")
        assert [row[column] for row in rows] == [str(item["value"]) for item in result["items"]]
    _, rows = await shown.table("stickiness")
    assert float(rows[-1][1]) == pytest.approx(overview["stickiness"], abs=1e-4)


async def test_users_of_a_part_of_a_month_are_of_its_days_only(shown: PageProbe, site: Site) -> None:
    await shown.view("/?from=2026-06-10&to=2026-11-05")
    _, rows = await shown.table("users")
    assert [row[0] for row in rows] == [f"2026-{month:02}" for month in range(6, 12)]
    assert int(rows[-1][1]) == await expected.users(site, Span("2026-11-01", "2026-11-05"), {})
    assert int(rows[-2][1]) == await expected.users(site, Span("2026-10-01", "2026-10-31"), {})


@pytest.mark.parametrize("query", ["", "compare=year", "realm=acme", "client_id=web&range=7d"])
async def test_the_rankings_are_the_apis_figures(shown: PageProbe, site: Site, query: str) -> None:
    view = VIEWS[query]
    assert view.before is not None
    await shown.view(f"/?{query}")
    for name, word in (("realms", "realm"), ("clients", "client_id")):
        rows = await shown.ranked(name)
        one_realm = "realm" in view.filters
        now, before = [
            await expected.grouped_users(site, span, view.filters, word) for span in (view.span, view.before)
        ]
        succeeded = await expected.sums(site, "/v1/logins", "succeeded", view.span, view.filters, word)
        failed = await expected.sums(site, "/v1/logins", "failed", view.span, view.filters, word)
        assert set(rows) == {short(key, one_realm) for key in (*now, *succeeded, *failed)}
        order = [row["users"] for row in rows.values()]
        assert order == sorted(order, reverse=True)
        for key, users in now.items():
            row = rows[short(key, one_realm)]
            assert row["users"] == users
            assert row["logins"] == succeeded[key]
            tried = succeeded[key] + failed[key]
            assert row.get("rate") == (pytest.approx(failed[key] / tried) if tried else None)
            assert row.get("change") == (pytest.approx(users / before[key] - 1) if before.get(key) else None)


def short(key: str, one_realm: bool) -> str:
    """With a realm chosen, the table's clients have no realm beside them."""
    return key.split(" · ")[0] if one_realm else key


async def test_tokens_quotas_and_otp_tokens_are_the_apis(shown: PageProbe, site: Site) -> None:
    await shown.view("/?tab=tokens")
    for name, word in (("grants", "grant_type"), ("kinds", "token_type")):
        assert await titled_sums(shown, name) == await expected.sums(site, "/v1/tokens", "tokens", LAST_30, {}, word)
    _, rows = await shown.table("m2m")
    names = ("realm", "client_id", "used", "limit", "percent", "projected", "projected_percent")
    items = (await site.get("/v1/m2m"))["items"]
    assert sorted(rows) == sorted(
        [item[name] if name in names[:2] else "–" if item[name] is None else f"{item[name]:g}" for name in names]
        for item in items
    )
    await shown.view("/?tab=otp")
    _, rows = await shown.table("otp")
    titles = await shown.chart("otp").locator("table thead bdi").evaluate_all("all => all.map(each => each.title)")
    items = (await site.get("/v1/otp-tokens"))["items"]
    assert {(row[0], title): int(value) for row in rows for title, value in zip(titles[1:], row[1:], strict=True)} == {
        (item["realm"], item["status"]): item["count"] for item in items
    }
    active, total = (sum(item["count"] for item in items if item["status"] == name) for name in ("active", "total"))
    hint = shown.chart("otp").locator(".hint")
    await expect(hint).to_have_text(f"now, by realm; sum of the realms: {active:,} active of {total:,}")


async def test_a_client_has_its_own_machine_tokens_and_not_the_realms(shown: PageProbe, site: Site) -> None:
    await shown.view("/?tab=tokens&client_id=web")
    await expect(shown.chart("m2m")).to_have_attribute("data-state", "empty")
    await expect(shown.chart("m2m").locator(".note")).to_contain_text("This client")
    await expect(shown.chart("m2m").locator(".hint")).not_to_contain_text("all clients")


async def test_the_pipeline_is_the_apis(shown: PageProbe, site: Site) -> None:
    await shown.view("/")
    result = await site.get("/v1/pipeline")
    assert (result["total"]["lag"], result["total"]["dead"]) == (15, 1)
    await expect(shown.page.locator("#status")).to_contain_text(
        "15 offsets behind in 2 of 7 partitions · 1 dead letter · newest event"
    )
    await shown.page.locator("#tab-pipeline").click()
    await shown.drawn()
    assert (await shown.value("lag"), await shown.value("dead")) == (15, 1)
    rows = await shown.page.locator("#pipeline tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].slice(0, 3).map(cell => cell.dataset.value ?? cell.innerText))"
    )
    assert rows == [
        [item["topic"], str(item["partition"]), "–" if item["lag"] is None else str(item["lag"])]
        for item in result["items"]
    ]


async def test_a_comparison_that_is_no_longer_kept_says_so(shown: PageProbe, site: Site) -> None:
    await shown.view("/?range=last-month&compare=year")
    change = shown.page.locator("#figure-logins .change")
    await expect(change).to_have_text("no comparison")
    assert "RETAIN_DAYS" in str(await change.get_attribute("title"))
    assert await shown.value("logins") == (await expected.tiles(site, Span("2026-10-01", "2026-10-31"), {}))["logins"]


async def test_a_comparison_with_months_before_the_first_event_names_its_month(shown: PageProbe) -> None:
    hint = shown.chart("users").locator(".hint")
    await shown.view("/?range=12m")
    await expect(hint).to_contain_text("; nothing counted there before Oct 2025")
    await shown.view("/")
    await expect(hint).to_contain_text("dotted: ")
    await expect(hint).not_to_contain_text("nothing counted")


async def test_today_stands_beside_the_usual_of_its_weekday(shown: PageProbe, site: Site) -> None:
    await shown.view("/?range=last-month&realm=acme")
    day = Span("2026-11-20", "2026-11-20")
    figures = await expected.tiles(site, day, {"realm": "acme"})
    for name in ("users", "logins", "rate"):
        value = await shown.page.locator(f"#today-{name}").get_attribute("data-value")
        assert float(str(value)) == pytest.approx(figures[name]), name
    fridays = [
        await expected.users(site, Span(friday, friday), {"realm": "acme"})
        for friday in ("2026-10-23", "2026-10-30", "2026-11-06", "2026-11-13")
    ]
    usual = f"whole Fridays: {min(fridays)} – {max(fridays)}"
    await expect(shown.page.locator("#today dd").first).to_contain_text(usual)


DRILLS: Final = {
    "a day's bar": ("/?tab=logins", "logins", {"from": "2026-11-18", "to": "2026-11-18"}),
    "a month's bar": ("/", "months", {"from": "2026-10-01", "to": "2026-10-31"}),
    "a realm's bar": ("/?tab=otp", "otp", {"realm": "globex"}),
}


@pytest.mark.parametrize("what", DRILLS)
async def test_a_bar_sets_a_filter_by_keyboard(shown: PageProbe, site: Site, what: str) -> None:
    path, name, wanted = DRILLS[what]
    await shown.view(path)
    plot = shown.chart(name).locator(".plot")
    rows = (await shown.table(name))[1]
    await plot.focus()
    first = wanted.get("realm") or wanted["from"]
    place = next(place for place, row in enumerate(rows) if first.startswith(row[0]))
    for _ in range(place + 1):
        await plot.press("ArrowRight")
    await plot.press("Enter")
    await shown.page.wait_for_url(lambda url: wanted.items() <= dict(parse_qsl(urlsplit(url).query)).items())
    await shown.drawn()
    if "from" in wanted:
        span = Span(wanted["from"], wanted["to"])
        assert await shown.value("users") == await expected.users(site, span, {})


async def test_a_click_on_a_bar_sets_its_day(shown: PageProbe, site: Site) -> None:
    await shown.view("/?range=7d&tab=logins")
    plot = shown.chart("logins").locator(".plot .nsewdrag").first
    box = await plot.bounding_box()
    assert box is not None
    # The third of seven days.
    await shown.page.mouse.move(box["x"] + box["width"] * 2.5 / 7, box["y"] + box["height"] * 0.7)
    await expect(shown.chart("logins").locator(".hoverlayer")).to_contain_text("Succeeded")
    await shown.page.mouse.down()
    await shown.page.mouse.up()
    await expect(shown.page).to_have_url(f"{site.url}/?from=2026-11-16&to=2026-11-16&tab=logins")
    await shown.drawn()
    figures = await expected.tiles(site, Span("2026-11-16", "2026-11-16"), {})
    assert await shown.value("logins") == figures["logins"]
    assert await shown.value("rate") == pytest.approx(figures["rate"])


async def test_rows_drill_down_from_a_reason_to_a_client(shown: PageProbe, site: Site) -> None:
    await shown.view("/?tab=logins")
    await shown.ranking("reasons").get_by_role("button", name="Account locked").click()
    await expect(shown.page).to_have_url(f"{site.url}/?reason=locked&tab=logins")
    await shown.drawn()
    assert "Failures: Account locked" in await shown.chips()
    failed = await expected.sums(site, "/v1/logins", "failed", LAST_30, {}, "realm,reason")
    assert {name: row["failed"] for name, row in (await shown.ranked("failing-realms")).items()} == {
        key.split(" · ")[0]: count for key, count in failed.items() if key.endswith(" · locked")
    }
    assert set(await titled_sums(shown, "reasons")) == {"locked"}
    # The row, not its button.
    await shown.ranking("failing-realms").locator("tbody tr", has_text="acme").locator("td").first.click()
    await shown.drawn()
    await shown.ranking("failing-clients").get_by_role("button", name="web").click()
    await expect(shown.page).to_have_url(f"{site.url}/?realm=acme&client_id=web&reason=locked&tab=logins")
    await shown.drawn()
    figures = await expected.tiles(site, LAST_30, {"realm": "acme", "client_id": "web"})
    assert await shown.value("logins") == figures["logins"]
    for name in ("client", "realm", "reason"):
        await shown.page.locator(f"[data-chip={name}] button").click()
    await expect(shown.page).to_have_url(f"{site.url}/?tab=logins")


async def test_how_exact_a_figure_is_stands_beside_it(shown: PageProbe, site: Site) -> None:
    """Without the pointer, because a figure is read from a screen or on paper, for example for a bill."""
    await shown.view("/?range=last-month")
    await expect(shown.page.locator("#figure-users .detail")).to_have_text("exact")
    failed = await expected.sums(site, "/v1/logins", "failed", VIEWS["range=last-month"].span, {}, "realm")
    text = await shown.page.locator("#figure-rate .detail").inner_text()
    assert narrow(text) == f"{sum(failed.values()):,} failed"


async def test_a_change_names_its_figure_and_the_days_before(shown: PageProbe) -> None:
    for tab, ranking, figure in (("users", "realms", "users"), ("logins", "failing-realms", "failed logins")):
        await shown.view(f"/?range=last-month&tab={tab}")
        head = shown.ranking(ranking).locator("thead th", has_text="Change")
        title = narrow(str(await head.get_attribute("title")))
        assert title == f"Change of {figure} against 1–30 Sept 2026"
        cell = shown.ranking(ranking).locator("td[data-column=change]").first
        assert str(await cell.get_attribute("title")).startswith("vs ")
    await shown.view("/?range=last-month&compare=none")
    assert await shown.ranking("realms").locator("thead th", has_text="Change").get_attribute("title") is None


async def test_rankings_sort_by_any_column(shown: PageProbe, site: Site) -> None:
    await shown.view("/")
    head = shown.ranking("clients").locator("thead th", has_text="Failure rate")
    await expect(head).to_have_attribute("aria-sort", "none")
    for direction, sign in (("descending", -1), ("ascending", 1)):
        await head.get_by_role("button").click()
        await expect(head).to_have_attribute("aria-sort", direction)
        rates = [row["rate"] for row in (await shown.ranked("clients")).values() if "rate" in row]
        assert len(rates) > 2
        assert rates == sorted(rates, key=lambda rate: sign * rate)
    await expect(shown.page.locator(":focus")).to_have_text("Failure rate")
