"""Signing in by a token or at the issuer, staying signed in, and what happens when that ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import expect

from deploy.demo.servers import Valkey
from tests.api.issuer import token
from tests.api.sources import by_file, listed
from tests.dashboard.conftest import Look
from tests.dashboard.provider import CLIENT, LIFETIME_S, Provider
from tests.dashboard.queries import PageProbe
from tests.dashboard.sample import fill
from tests.dashboard.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

READER = "sesame"
ENDED = "Your sign-in has ended."


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def filled(store: Valkey) -> str:
    await fill(store.url)
    return store.url


@pytest_asyncio.fixture(loop_scope="session")
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as provider:
        yield provider


def settings(folder: Path, provider: Provider) -> dict[str, Any]:
    bearers = by_file(
        folder,
        listed(READER, scopes=["stats:read"]),
        listed("limited", scopes=["stats:read"], realms=["acme"]),
        listed("scopeless"),
    )
    return bearers | provider.settings | {"auth": ("static", "jwt")}


@pytest_asyncio.fixture(loop_scope="session")
async def site(filled: str, tmp_path: Path, provider: Provider) -> AsyncIterator[Site]:
    async with Site(filled, ahead_s=0, **settings(tmp_path, provider)) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="session")
async def page(look: Look, site: Site, provider: Provider) -> PageProbe:
    """Of a browser with a real calendar, which may ask the issuer too."""
    page = await look(site, None, now=None)
    page.origins.add(provider.url)
    return page


async def paste(page: PageProbe, text: str) -> None:
    await page.page.fill("#token", text)
    await page.page.get_by_role("button", name="Use this token").click()


async def sign_in(page: PageProbe, path: str = "/") -> None:
    await page.go(path)
    await page.page.get_by_role("button", name="Sign in at").click()
    await is_in(page)


async def is_in(page: PageProbe) -> None:
    await expect(page.page.locator("#board")).to_be_visible()
    await expect(page.page.locator("#sign-in")).to_be_hidden()
    await expect(page.page.locator("#figure-users .value[data-value]")).to_be_visible()


async def is_out(page: PageProbe, says: str) -> None:
    await expect(page.page.locator("#sign-in")).to_be_visible()
    await expect(page.page.locator("#board")).to_be_hidden()
    await expect(page.page.locator("#sign-in [role=alert]")).to_contain_text(says)


async def stored(page: PageProbe) -> str:
    """All that the tab keeps; nothing may be where other tabs can see it."""
    assert await page.page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"
    text: str = await page.page.evaluate("JSON.stringify(sessionStorage)")
    return text


async def test_a_token_that_is_pasted_signs_in(page: PageProbe) -> None:
    await page.go("/?range=7d")
    await is_out(page, "")
    await paste(page, f"  Bearer {READER}\n")
    await is_in(page)
    assert page.page.url == f"{page.site.url}/?range=7d"
    assert READER in await stored(page)
    assert not [url for url in page.requests if READER in url]
    await page.page.reload()
    await is_in(page)


async def test_another_tab_is_not_signed_in(page: PageProbe) -> None:
    await page.go("/")
    await paste(page, READER)
    await is_in(page)
    other = await page.page.context.new_page()
    await other.goto(page.site.url)
    await expect(other.locator("#sign-in")).to_be_visible()
    await expect(other.locator("#board")).to_be_hidden()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("guessed", "This token is not valid here"),
        ("with spaces in it", "This token is not valid here"),
        ("scopeless", "The dashboard needs stats:read"),
        (token(exp=int(time.time()) - 10, scope="stats:read"), "expired"),
    ],
    ids=["unknown", "no token", "without the scope", "expired"],
)
async def test_a_useless_token_is_reported_at_once(page: PageProbe, text: str, says: str) -> None:
    await page.go("/")
    await paste(page, text)
    await is_out(page, says)
    assert await stored(page) == "{}"
    await paste(page, READER)
    await is_in(page)


async def test_a_bearer_of_some_realms_sees_only_those(page: PageProbe) -> None:
    await page.go("/")
    await paste(page, "limited")
    await is_in(page)
    await page.drawn()
    await expect(page.page.locator("#realm option")).to_have_text(["All realms", "acme"])
    assert list(await page.ranked("realms")) == ["acme"]
    await expect(page.page.locator("#status")).to_contain_text("this bearer is limited to some")
    await page.page.locator("#tab-pipeline").click()
    for part in (page.page.locator("#pipeline"), page.chart("lag")):
        await expect(part).to_have_attribute("data-state", "refused")


async def test_a_token_in_the_fragment_signs_in_and_leaves_the_address(page: PageProbe) -> None:
    await page.go(f"/?range=7d#token={READER}")
    await is_in(page)
    assert page.page.url == f"{page.site.url}/?range=7d"
    assert READER in await stored(page)
    assert not [url for url in page.requests if READER in url.split("#")[0]]
    await page.page.go_back()
    await page.page.go_forward()
    assert READER not in page.page.url
    # A link that is opened while someone is signed in changes nothing but the address.
    await page.page.evaluate("location.hash = 'token=limited'")
    await expect(page.page).to_have_url(f"{page.site.url}/?range=7d")
    assert "limited" not in await stored(page)


@pytest.mark.parametrize(("text", "says"), [("guessed", "This token is not valid here"), ("scopeless", "stats:read")])
async def test_a_useless_token_in_the_fragment_is_reported(page: PageProbe, text: str, says: str) -> None:
    await page.go(f"/#token={text}")
    await is_out(page, says)
    assert page.page.url == f"{page.site.url}/"
    assert await stored(page) == "{}"
    # The same tab, signed out: another link is tried too.
    await page.page.evaluate(f"location.hash = 'token={READER}'")
    await is_in(page)
    assert page.page.url == f"{page.site.url}/"


async def test_without_access_control_a_token_only_leaves_the_address(look: Look, filled: str) -> None:
    async with Site(filled) as site:
        page = await look(site, f"/#token={READER}")
        await expect(page.page.locator("#board")).to_be_visible()
        assert page.page.url == f"{site.url}/"
        assert await stored(page) == "{}"


async def test_the_issuer_signs_in_and_the_view_is_kept(page: PageProbe, provider: Provider) -> None:
    await sign_in(page, "/?range=90d&realm=acme")
    assert page.page.url == f"{page.site.url}/?range=90d&realm=acme"
    (asked,) = provider.authorizations
    assert {name: asked[name] for name in ("response_type", "client_id", "scope", "code_challenge_method")} == {
        "response_type": "code",
        "client_id": CLIENT,
        "scope": "openid stats:read",
        "code_challenge_method": "S256",
    }
    assert asked["redirect_uri"] == f"{page.site.url}/"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    (granted,) = provider.grants
    assert granted.keys() == {"client_id", "grant_type", "code", "redirect_uri", "code_verifier"}
    await expect(page.page.locator("#who")).to_have_text("ada")
    await stored(page)
    await page.page.reload()
    await is_in(page)
    assert len(provider.grants) == 1, "the code is not used again"
    assert "code=" not in await page.page.evaluate("location.href + document.referrer")


async def test_a_refusal_of_the_issuer_is_shown(page: PageProbe, provider: Provider) -> None:
    provider.refuses = "<b>Not today</b>"
    await page.go("/?range=7d")
    await page.page.get_by_role("button", name="Sign in at").click()
    await is_out(page, "The issuer did not sign you in: <b>Not today</b>")
    assert page.page.url == f"{page.site.url}/?range=7d"
    provider.refuses = ""
    await page.page.get_by_role("button", name="Sign in at").click()
    await is_in(page)


async def test_an_unrequested_answer_is_not_used(page: PageProbe, provider: Provider) -> None:
    await page.go("/?range=7d&code=stolen&state=guessed&iss=https://elsewhere.example")
    await is_out(page, "not started in this tab")
    assert page.page.url == f"{page.site.url}/?range=7d"
    assert provider.grants == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"nonce": "replayed"}, "does not belong to this sign-in"),
        ({"named": "https://mixed.up.example"}, "another issuer"),
        ({"scope": "openid"}, "The dashboard needs stats:read"),
    ],
    ids=["another nonce", "another issuer", "without the scope"],
)
async def test_a_wrong_answer_signs_no_one_in(
    page: PageProbe, provider: Provider, changes: dict[str, Any], says: str
) -> None:
    for name, value in changes.items():
        setattr(provider, name, value)
    await page.go("/")
    await page.page.get_by_role("button", name="Sign in at").click()
    await is_out(page, says)
    assert await stored(page) == "{}"


async def test_an_issuer_that_does_not_answer_is_reported(look: Look, filled: str, tmp_path: Path) -> None:
    async with Provider() as provider:
        given = settings(tmp_path, provider)
    async with Site(filled, ahead_s=0, **given) as site:
        page = await look(site, now=None)
        page.origins.add(provider.url)
        await page.page.get_by_role("button", name="Sign in at").click()
        await is_out(page, "does not answer")


async def test_a_token_endpoint_elsewhere_must_be_allowed(
    look: Look, filled: str, tmp_path: Path, provider: Provider
) -> None:
    provider.token_host = "localhost"
    elsewhere = provider.url.replace("127.0.0.1", "localhost")
    given = settings(tmp_path, provider)
    async with Site(filled, ahead_s=0, **given) as site:
        page = await look(site, now=None)
        page.origins.add(provider.url)
        await page.page.get_by_role("button", name="Sign in at").click()
        await is_out(page, f"{elsewhere}: AUTHTALLY_DASHBOARD_CONNECT_ORIGINS")
        assert provider.grants == []
    async with Site(filled, ahead_s=0, dashboard_connect_origins=(elsewhere,), **given) as site:
        page = await look(site, None, now=None)
        page.origins |= {provider.url, elsewhere}
        await sign_in(page)


async def test_signing_out_forgets_and_ends_the_issuers_session(page: PageProbe, provider: Provider) -> None:
    await sign_in(page)
    async with page.page.expect_navigation(url=f"{page.site.url}/"):
        await page.page.locator("#sign-out").click()
    await is_out(page, "")
    assert await stored(page) == "{}"
    (ended,) = provider.ended
    assert ended.keys() == {"client_id", "post_logout_redirect_uri", "id_token_hint"}
    await page.page.reload()
    await is_out(page, "")


@pytest.mark.parametrize("way", ["issuer without an end", "pasted"])
async def test_signing_out_elsewhere_only_forgets(page: PageProbe, provider: Provider, way: str) -> None:
    provider.ends_sessions = False
    if way == "pasted":
        await page.go("/")
        await paste(page, READER)
        await is_in(page)
    else:
        await sign_in(page)
    await page.page.locator("#sign-out").click()
    await is_out(page, "")
    assert await stored(page) == "{}"
    assert provider.ended == []
    await expect(page.page.locator("#live")).to_have_attribute("data-state", "off")


async def test_a_token_that_ends_asks_for_another_and_keeps_the_view(page: PageProbe, provider: Provider) -> None:
    await sign_in(page, "/?range=7d")
    await page.drawn()
    page.site.ahead_s = LIFETIME_S + 1
    await page.page.select_option("#realm", "acme")
    await is_out(page, ENDED)
    assert parse_qs(urlsplit(page.page.url).query) == {"range": ["7d"], "realm": ["acme"]}
    assert await stored(page) == "{}"
    provider.ahead_s = LIFETIME_S + 1
    await page.page.get_by_role("button", name="Sign in at").click()
    await is_in(page)
    await expect(page.page.locator("#realm")).to_have_value("acme")


async def test_the_page_notices_by_itself_that_its_token_ends(page: PageProbe, provider: Provider) -> None:
    await page.go("/")
    await paste(page, token(iss=provider.url, scope="stats:read", exp=int(time.time()) + 8))
    await is_in(page)
    await is_out(page, ENDED)


async def test_a_refresh_token_renews_silently_and_once(page: PageProbe, provider: Provider) -> None:
    provider.refreshes = True
    await sign_in(page)
    page.site.ahead_s = provider.ahead_s = LIFETIME_S + 1
    async with page.page.expect_response("**/token"):
        await page.page.select_option("#range", "7d")
    await expect(page.page).to_have_url(f"{page.site.url}/?range=7d")
    await is_in(page)
    assert [grant["grant_type"] for grant in provider.grants] == ["authorization_code", "refresh_token"]
    for name in ("users", "months", "rolling"):
        await expect(page.chart(name)).to_have_attribute("data-state", "ready")
    await expect(page.page.locator("#sign-in")).to_be_hidden()


async def test_a_refresh_token_that_is_refused_asks_for_another_sign_in(page: PageProbe, provider: Provider) -> None:
    provider.refreshes = True
    await sign_in(page)
    provider.revoke()
    page.site.ahead_s = LIFETIME_S + 1
    # The stream of live figures may find it first, and hide the form.
    await page.page.locator("#range").evaluate("range => range.dispatchEvent(new Event('change', {bubbles: true}))")
    await is_out(page, ENDED)
    assert [grant["grant_type"] for grant in provider.grants] == ["authorization_code", "refresh_token"]
