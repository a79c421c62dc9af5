"""The page's files: what is sent, how it is kept, and that nothing in it comes from elsewhere."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.dashboard import assets
from api.dashboard.routes import accepts_gzip, own_digest
from tests.api.conftest import Api, Serve
from tests.api.issuer import Issuer
from tests.api.sources import by_jwt

FOLDER = Path(assets.__file__).parent / "static"
MODULES = sorted(path.name for path in FOLDER.glob("*.js") if path.name != "theme.js")
PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture
async def api(serve: Serve, redis_url: str) -> Api:
    return await serve(redis_url=redis_url)


async def page(api: Api) -> str:
    answer = await api.get("/", headers=PLAIN)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    return answer.text


async def test_the_page_needs_no_token_and_has_no_figures(serve: Serve, redis_url: str, issuer: Issuer) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    assert "<h1>authtally</h1>" in await page(api)
    assert (await api.get("/v1/overview")).status == 401


@pytest.mark.parametrize("path", ["/", "/dashboard/config.json", "/dashboard/0123456789abcdef/main.js"])
async def test_it_can_be_off(serve: Serve, redis_url: str, path: str) -> None:
    api = await serve(redis_url=redis_url, dashboard=False)
    assert (await api.get(path)).status == 404


async def test_nothing_but_own_files_may_run_or_be_asked(
    api: Api, serve: Serve, issuer: Issuer, redis_url: str
) -> None:
    headers = (await api.get("/")).headers
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    settings = by_jwt(issuer) | {"auth_issuer": "https://idp.example.org/realms/main", "dashboard_client_id": "board"}
    signing_in = await serve(redis_url=redis_url, **settings)
    policy = (await signing_in.get("/")).headers["Content-Security-Policy"]
    assert "connect-src 'self' https://idp.example.org;" in policy


async def test_every_file_that_the_page_names_is_kept_for_good(api: Api) -> None:
    named = re.findall(r'(?:href|src|content)="(/dashboard/[^"]+)"', await page(api))
    assert len(named) > len(MODULES)
    for path in named:
        answer = await api.get(path)
        assert answer.status == 200, path
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable", path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again = await api.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


async def test_the_page_itself_is_asked_for_again(api: Api) -> None:
    answer = await api.get("/")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert (await api.get("/", headers={"If-None-Match": answer.headers["ETag"]})).status == 304


async def test_files_of_another_version_are_not_kept(api: Api) -> None:
    """The page came from a process that is a version ahead."""
    answer = await api.get("/dashboard/0123456789abcdef/main.js", headers=PLAIN)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.body == (FOLDER / "main.js").read_bytes()


async def test_files_are_compressed_for_clients_that_accept_it(api: Api) -> None:
    path = f"/dashboard/{own_digest()}/board.js"
    plain, packed = await api.get(path, headers=PLAIN), await api.get(path, headers={"Accept-Encoding": "gzip"})
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    assert plain.body == packed.body, "the client has unpacked it"
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert int(packed.headers["Content-Length"]) < len(plain.body) / 2


@pytest.mark.parametrize(
    ("header", "taken"),
    [("gzip, deflate, br", True), ("GZIP;q=0.5", True), ("*", True), ("br", False), ("gzip;q=0", False), ("", False)],
)
def test_packed_is_what_is_taken(header: str, taken: bool) -> None:
    assert accepts_gzip({"Accept-Encoding": header}) is taken


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2Froutes.py", "..%2F..%2Fapp.py", "%2Fetc%2Fpasswd"])
async def test_nothing_else_is_sent(api: Api, name: str) -> None:
    assert (await api.get(f"/dashboard/{own_digest()}/{name}")).status == 404


async def test_charts_are_drawn_by_the_installed_package_unchanged(api: Api) -> None:
    library = assets.library()
    assert library is not None
    (installed,) = [Path(folder) for folder in sys.path if (Path(folder) / "plotly" / "package_data").is_dir()]
    answer = await api.get(f"/dashboard/{library.asset.digest}/{assets.CHARTS}", headers=PLAIN)
    assert answer.body == (installed / "plotly" / "package_data" / assets.CHARTS).read_bytes()
    assert library.style_ids, "where it would add style elements is found"
    text = await page(api)
    assert all(each in text for each in library.style_ids)


def test_the_package_of_charts_is_not_imported() -> None:
    script = "import sys; from api.dashboard import assets; assert assets.library(); assert 'plotly' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


async def test_every_module_is_fetched_with_the_page(api: Api) -> None:
    """And not one after the other, as each names the next."""
    text = await page(api)
    preloaded = re.findall(r'rel="modulepreload" href="/dashboard/\w+/([^"]+)"', text)
    assert sorted([*preloaded, "main.js"]) == MODULES
    for name in MODULES:
        for imported in re.findall(r'from "\./([^"]+)"', (FOLDER / name).read_text(encoding="utf-8")):
            assert imported in MODULES, name


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_nothing_is_inline_or_from_elsewhere(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    own = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?:src|href|url|import|fetch)\W{1,3}(?:https?:)?//", own), "another host"
    assert "innerHTML" not in own
    assert "insertAdjacentHTML" not in own
    assert "eval(" not in own
    if name.endswith(".html"):
        assert not re.search(r"<style|<script>|\son\w+=|\sstyle=", own)


def test_the_page_is_small_but_for_its_library() -> None:
    sent = sum(len(gzip.compress(content)) for content in assets.own_files().values())
    assert sent < 85_000
