"""`authtally doctor` over two regions: what it finds on ledgers, topics, settings, addresses and tokens of peers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from click.testing import CliRunner

from deploy.cli.doctor.regions import common_share
from deploy.cli.main import main
from deploy.demo.servers import Valkey
from tests.api.sources import listed
from tests.api.worker import Event, count, login
from tests.certificates import Authority
from tests.deploy.cli.doctor.conftest import Found
from tests.deploy.tls_front import CaddyFront, NginxFront, TlsFront
from tests.integration.api_process import ApiProcess

TOKENS = {"peer": ["sketches:read"], "reader": ["stats:read"]}
USERS = 30


def events(region: str) -> list[Event]:
    return [
        login("2026-10-05T10:00:00Z", f"user-{number}", realm="acme", client_id="web", id=f"{region}-{number}")
        for number in range(USERS)
    ]


class Two(NamedTuple):
    """Doctor runs in region eu, of which only the store is there; us has an api."""

    own: str
    other: str
    url: str
    folder: Path

    def examine(self, peers: list[dict[str, str]] | None = None, **settings: str | None) -> Found:
        """Run `doctor` with the usual settings and these; a setting that is None is left out."""
        (self.folder / "peers.json").write_text(json.dumps(peers or [self.peer()]))
        given: dict[str, str | None] = {
            "redis_url": self.own,
            "auth": "static",
            "auth_tokens_file": str(self.folder / "tokens.json"),
            "region": "eu",
            "region_users": "shared",
            "peers_file": str(self.folder / "peers.json"),
        }
        given |= settings
        environment = {f"AUTHTALLY_{name.upper()}": value for name, value in given.items() if value is not None}
        done = CliRunner().invoke(main, ["doctor", "--service", "api", "--json"], env=environment)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Found(done.exit_code, json.loads(done.stdout))

    def peer(self, **changes: str) -> dict[str, str]:
        return {"name": "us", "url": self.url, "token_file": str(self.folder / "peer.token")} | changes

    def recount(self, region: str = "eu", **settings: Any) -> None:
        """Fill the own store anew, with these settings of the worker."""
        with redis.Redis.from_url(self.own) as client:
            client.flushall()
        asyncio.run(count(self.own, events(region), **settings))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("regions")
    entries = [listed(name, scopes=scopes) for name, scopes in TOKENS.items()]
    (folder / "tokens.json").write_text(json.dumps(entries))
    for name in (*TOKENS, "nobody"):
        (folder / f"{name}.token").write_text(name)
    (folder / "none.json").write_text(json.dumps(entries[1:]))
    with Valkey() as own, Valkey() as other:
        asyncio.run(count(other.url, events("us")))
        back = [{"name": "eu", "url": "http://127.0.0.1:1", "token_file": str(folder / "peer.token")}]
        (folder / "back.json").write_text(json.dumps(back))
        with ApiProcess(
            redis_url=other.url,
            auth="static",
            auth_tokens_file=str(folder / "tokens.json"),
            region="us",
            region_users="shared",
            peers_file=str(folder / "back.json"),
        ) as api:
            yield Two(own.url, other.url, f"http://{api.address}", folder)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_two_regions_that_agree_have_no_problem(two: Two) -> None:
    two.recount()
    found = two.examine()
    for check in ("peer", "ledger", "settings", "topics", "token"):
        assert found.verdicts(f"regions.{check}") == {"ok"}, found.of(f"regions.{check}")
    assert "no event id of one hour is counted in both" in found.text("regions.topics", "ok")


def test_without_regions_nothing_is_said(two: Two) -> None:
    found = two.examine(region=None, region_users=None, peers_file=None)
    assert found.verdicts("settings.api") == {"ok"}
    assert not [each for each in found.printed["findings"] if each["check"].startswith("regions.")]


def test_a_shared_ledger_is_a_problem(two: Two) -> None:
    text = two.examine(redis_url=two.other).text("regions.ledger", "problem")
    assert text.startswith("us: its ledger id ")
    assert "is that of region eu: its figures would count twice → correct url of us in PEERS_FILE" in text


def test_one_ledger_under_two_names_is_a_problem(two: Two) -> None:
    two.recount()
    found = two.examine([two.peer(), two.peer(name="ap")])
    assert "ap: its ledger id" in found.text("regions.ledger", "problem")
    assert "REGION is us there, and PEERS_FILE names it ap" in found.text("regions.settings", "problem")


def test_a_mirrored_topic_is_a_problem(two: Two) -> None:
    two.recount("us")
    text = two.examine().text("regions.topics", "problem")
    assert "us: 100% of the event ids of one hour are counted in both regions" in text
    assert "topics with equal names: auth.logins" in text
    assert "leave the mirrored topic out of TOPICS" in text


SETTINGS = [
    pytest.param({"timezone": "Europe/Berlin"}, "problem", "TIMEZONE is UTC there and Europe/Berlin here"),
    pytest.param({"user_scope": "realm"}, "problem", "USER_SCOPE is global there and realm here"),
    pytest.param({"exact_up_to": 100}, "problem", "EXACT_UP_TO is 4096 there and 100 here"),
    pytest.param(
        {"user_hash_key": "0123456789abcdef" * 4}, "problem", "USER_HASH_KEY differs: equal users would count twice"
    ),
    pytest.param({"users_by": ("realm", "client")}, "warning", "USERS_BY is realm there and client,realm here"),
    pytest.param({"retain_days": "30"}, "warning", "RETAIN_DAYS is forever there and 30 here"),
]


@pytest.mark.parametrize(("settings", "verdict", "what"), SETTINGS)
def test_a_setting_that_differs_is_named_with_both_values(
    two: Two, settings: dict[str, Any], verdict: str, what: str
) -> None:
    two.recount(**settings)
    text = two.examine().text("regions.settings", verdict)
    assert text.startswith(f"us: {what}"), text


def test_ids_under_two_hash_keys_are_not_compared(two: Two) -> None:
    two.recount("us", user_hash_key="0123456789abcdef" * 4)
    text = two.examine(region_users="distinct").text("regions.topics", "unknown")
    assert "topics with equal names: auth.logins; event ids cannot be compared" in text


UNREACHABLE = [
    pytest.param({"url": "http://127.0.0.1:1"}, "cannot be reached", "correct url in PEERS_FILE", id="no server"),
    pytest.param({"url": "{url}/nowhere"}, "has no exports", "set AUTHTALLY_REGION there", id="no such path"),
    pytest.param({"token_file": "{folder}/nobody.token"}, "does not accept the token", "SHA-256", id="unknown token"),
    pytest.param({"token_file": "{folder}/reader.token"}, "lacks the scope", "sketches:read there", id="no scope"),
    pytest.param({"url": "{url}", "name": "us"}, "", "", id="as it should be"),
]


@pytest.mark.parametrize(("changes", "what", "cure"), UNREACHABLE)
def test_a_peer_that_cannot_be_asked_is_named_with_the_cure(
    two: Two, changes: dict[str, str], what: str, cure: str
) -> None:
    given = {name: value.format(url=two.url, folder=two.folder) for name, value in changes.items()}
    found = two.examine([two.peer(**given)])
    if not what:
        assert found.verdicts("regions.peer") == {"ok"}
        return
    text = found.text("regions.peer", "problem")
    assert text.startswith("us: http://127.0.0.1:"), text
    assert what in text
    assert cure in text
    assert found.status == 1


def test_a_region_that_no_other_can_ask_is_a_problem(two: Two) -> None:
    text = two.examine(auth_tokens_file=str(two.folder / "none.json")).text("regions.token", "problem")
    assert "AUTH_TOKENS_FILE has no token with the scope sketches:read" in text


def hexadecimal(*numbers: int) -> list[str]:
    return [f"{number:016x}" for number in numbers]


def test_the_share_of_common_ids() -> None:
    many, others = range(0, 4_000, 2), range(1, 4_000, 2)
    full = hexadecimal(*many[:1_000])
    assert common_share(hexadecimal(1, 2, 3, 4), hexadecimal(3, 4)) == 1.0
    assert common_share(hexadecimal(1, 2), hexadecimal(3, 4)) == 0.0
    assert common_share([], []) == 0.0
    assert common_share(full, full) == 1.0
    assert common_share(full, hexadecimal(*others[:1_000])) == 0.0
    # Half of the ids of one are those of the other, which has twice as many: its sample ends at half the height.
    assert common_share(hexadecimal(*range(1_000)), full) == 1.0


@pytest.mark.parametrize("front", [NginxFront, CaddyFront])
def test_what_it_says_of_certificates(two: Two, tmp_path: Path, front: type[TlsFront]) -> None:
    two.recount()
    authority, other = Authority(tmp_path, "authority"), Authority(tmp_path, "other")
    target = two.url.removeprefix("http://")
    not_accepted = "has a certificate that is not accepted → set ca in PEERS_FILE, or correct url"
    for shown, ca, found in (
        (authority.sign("good", front.host), authority.file, ""),
        (authority.sign("good", front.host), other.file, not_accepted),
        (authority.sign("good", front.host), "", not_accepted),
        (authority.sign("elsewhere", host="us.example"), authority.file, not_accepted),
        (authority.sign("expired", front.host, days=-1), authority.file, not_accepted),
    ):
        with front(target, shown) as server:
            examined = two.examine([two.peer(url=server.url, ca=str(ca))])
            assert found in examined.text("regions.peer", "problem" if found else "ok"), (shown.certificate, ca)


@pytest.mark.parametrize(
    ("front", "missing"),
    [
        (NginxFront, "answers with status 400, as nginx does without a client certificate"),
        (CaddyFront, "breaks off the connection"),
    ],
)
def test_a_client_certificate_opens_a_proxy_that_asks_for_one(
    two: Two, tmp_path: Path, front: type[TlsFront], missing: str
) -> None:
    two.recount()
    authority = Authority(tmp_path, "authority")
    ours = authority.sign("ours")
    strange = Authority(tmp_path, "other").sign("strange")
    with front(two.url.removeprefix("http://"), authority.sign("server", front.host), authority.file) as server:
        peer = two.peer(url=server.url, ca=str(authority.file))
        assert f"{missing} → set certificate and key" in two.examine([peer]).text("regions.peer", "problem")
        mine = peer | {"certificate": str(ours.certificate), "key": str(ours.key)}
        assert two.examine([mine]).verdicts("regions.peer") == {"ok"}
        both_in_one = peer | {"certificate": str(ours.both)}
        assert two.examine([both_in_one]).verdicts("regions.peer") == {"ok"}
        wrong = peer | {"certificate": str(strange.certificate), "key": str(strange.key)}
        assert "set certificate and key" in two.examine([wrong]).text("regions.peer", "problem")
