"""Policy files: the document's own are valid, what is not enforced is refused, and changes count from their time."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
import redis

from api.inventory.policy_history import Change, RecordingHistory
from api.settings.policy_users import Match, match_user
from api.settings.reporting_policy import AccessPolicy, AllowedRealms, Policies, RecordingPolicy, parse
from schemas.ledger import keys
from schemas.ledger.inventory import WRITTEN_STATUSES
from schemas.settings import SettingsError, read
from tests.api.conftest import Clock, Serve
from tests.api.otp import policy, rows, state, write, written

ACCESS = "[a]\nscope = reporting.access\nrealm = *\naction = *\n"

DOCUMENTED = """
[Reporting]
realm = *
name = Reporting
action = 'token_total, token_status=assigned&active, token_status=unassigned&active,
token_status=assigned&inactive, token_status=unassigned&inactive, token_status=active,
token_status=inactive, token_status=assigned, token_status=unassigned'
client = *
user = *
time = * * * * * *;
active = True
scope = reporting

[Reporting_access]
realm = *
name = Reporting_access
active = True
client = *
user = *
time = * * * * * *;
action = "show, period, maximum, delete_all, delete_before"
scope = reporting.access
"""


def test_the_documented_policies_are_a_valid_file() -> None:
    found = parse(DOCUMENTED)
    pairs = ("assigned&active", "unassigned&active", "assigned&inactive", "unassigned&inactive")
    statuses = ("total", *pairs, "active", "inactive", "assigned", "unassigned")
    assert found.recording == (RecordingPolicy(None, statuses),)
    actions = frozenset({"show", "period", "maximum", "delete_all", "delete_before"})
    assert found.access == (AccessPolicy(("*",), actions, None),)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a]\nscope = reporting\nrealm = *\naction = token_totals", "policy [a], action: 'token_totals' is none of"),
        ("[a]\nscope = reporting\nrealm = *\naction = token_status=lost", "token_status: 'lost' is none of total"),
        ("[a]\nscope = reporting.access\nrealm = *\naction = shows", "action: 'shows' is none of show, period"),
        ("[a]\nscope = reporting\naction = token_total", "policy [a], realm: is missing"),
        ("[a]\nscope = reporting\nrealm = *", "policy [a], action: is missing"),
        ("[a]\nrealm = *\naction = *", "policy [a], scope: is missing"),
        ("[a]\nscope = reporting.acess\nrealm = *\naction = *", "'reporting.acess' is neither"),
        ("[a]\nscope = reporting\nrealm = *\naction = *", "policy [a], action: '*' is none of token_total"),
        ("[a]\nscope = reporting\nrealm = *\naction = token_total\nclient = 10.0.0.0/8", "client: is not enforced"),
        ("[a]\nscope = reporting\nrealm = *\naction = token_total\ntime = * 9-17 * * * *;", "time: is not enforced"),
        ("[a]\nscope = reporting\nrealm = *\naction = token_total\nuser = ada", "user: is not enforced here"),
        ("[a]\nscope = reporting\nrealm = *\naction = token_total\nnonsense = yes", "nonsense: is not enforced here"),
        ("[a]\nscope = reporting\nrealm = *\naction = token_total\nactive = maybe", "active: is neither True nor"),
        (ACCESS + "user = ada#mobile==1", "policy [a], user: 'ada#mobile==1' compares attributes"),
        (ACCESS + "user = -.*local:", "policy [a], user: '-.*local:' names a resolver"),
        (ACCESS + "user = a(", "policy [a], user: 'a(' is not a regular expression"),
        (ACCESS + "user = *@re[alm", "policy [a], user: '*@re[alm' is not a regular expression"),
        (ACCESS.replace("realm = *", "realm = *, -acme"), "policy [a], realm: '-acme': a realm cannot be denied"),
        (ACCESS.replace("action = *", "action = !show"), "policy [a], action: '!show' is none of show"),
        ("[a]\nscope = reporting\nscope = reporting", "line 3: policy [a] defines scope twice"),
        ("[a]\nscope = x\n[a]\nscope = x", "line 3: policy [a] is defined twice"),
        ("scope = reporting", "line 1 is before the first [name]"),
        ("[a]\nnonsense", "line 2 is neither"),
        ("[a\nscope = x", "line 1 is not a section"),
        ("[a]\naction = 'token_total", "line 2: the quote is never closed"),
        ("[a]\naction = 'token_total' and", "line 2: 'and' follows the closing quote"),
    ],
)
def test_errors_are_reported_with_their_place(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse(text)
    assert fault in str(raised.value)


def test_comments_other_scopes_and_inactive_policies_are_passed_over() -> None:
    others = policy("admin", "*", client="10.0.0.0/8") + "# a comment\n; another\n\n"
    inactive = policy("reporting", "token_total", active="False")
    assert parse("\ufeff" + others + inactive) == Policies()


@pytest.mark.parametrize(
    ("subject", "action", "allowed", "why"),
    [
        ("ada", "show", AllowedRealms(frozenset({"globex", "initech"})), "both that name her, not the one for all"),
        ("ada", "period", None, "none of hers, so none"),
        ("abe", "show", AllowedRealms(frozenset({"umbrella"})), "a pattern wins over all"),
        ("bob", "show", AllowedRealms(frozenset({"acme"})), "the one for all"),
        ("bob", "period", None, "no policy has the action"),
        ("root", "delete_all", AllowedRealms(None), "everything"),
        ("root", "show", AllowedRealms(None), "hers only"),
    ],
)
def test_the_policies_that_name_a_user_best_add_up(
    subject: str, action: str, allowed: AllowedRealms | None, why: str
) -> None:
    found = parse(
        policy("reporting.access", "show", "acme", name="1")
        + policy("reporting.access", "show, maximum", "globex", user="ada", name="2")
        + policy("reporting.access", "show", "initech", user="ada, bill", name="3")
        + policy("reporting.access", "show", "umbrella", user="a*", name="4")
        + policy("reporting_access", "*", user="root", name="5")
    )
    assert found.allowed_realms(subject, action) == allowed, why


@pytest.mark.parametrize(
    ("users", "subject", "match", "why"),
    [
        ("*", "ada", Match.WILDCARD, "everybody"),
        ("ada", "ada", Match.EXACT, "by name"),
        ("ada", "Ada", Match.NONE, "names have their case"),
        ("ADA", "ada", Match.NONE, "names have their case"),
        ("ada", "adam", Match.NONE, "the whole name"),
        ("ada", "ada\n", Match.NONE, "the whole name"),
        ("a*", "ada", Match.PATTERN, "a short form of a regular expression"),
        ("a.*", "ada", Match.PATTERN, "a regular expression"),
        ("a.a", "ada", Match.PATTERN, "a regular expression"),
        ("*, ada", "ada", Match.EXACT, "the best of the list"),
        ("ada, *", "ada", Match.EXACT, "in any order"),
        ("*, a*", "ada", Match.PATTERN, "the best of the list"),
        ("-ada, *", "ada", Match.NONE, "denied"),
        ("*, !ada", "ada", Match.NONE, "denied, also at the end"),
        ("-a*, ada", "ada", Match.NONE, "denied by a pattern"),
        ("-ada, *", "bob", Match.WILDCARD, "somebody else is denied"),
        ("-ada", "bob", Match.NONE, "a denial allows no user"),
        ("", "ada", Match.NONE, "empty: no user"),
        (",", "ada", Match.NONE, "empty: no user"),
        ("ada@acme", "ada@acme", Match.EXACT, "with the realm"),
        ("ada@ACME", "ada@acme", Match.PATTERN, "realms without case, as a pattern then"),
        ("ada@acme", "ada@globex", Match.NONE, "another realm"),
        ("ada@acme", "ada", Match.NONE, "without a realm"),
        ("*@acme", "ada@acme", Match.PATTERN, "everybody of the realm"),
        ("*@acme", "ada@acme2", Match.NONE, "the whole realm"),
        ("-*@acme, *", "ada@acme", Match.NONE, "no user of the realm"),
        ("ada", "ada@acme", Match.EXACT, "the name alone, of any realm"),
        ("ada@example.com", "ada@example.com", Match.EXACT, "a name that is an address"),
    ],
)
def test_users_match_as_in_linotp(users: str, subject: str, match: Match, why: str) -> None:
    assert match_user(tuple(item.strip() for item in users.split(",") if item.strip()), subject) == match, why


def test_a_missing_user_is_every_user_and_an_empty_one_none() -> None:
    assert parse(ACCESS).allowed_realms("ada", "show") == AllowedRealms(None)
    assert parse(ACCESS + "user =").allowed_realms("ada", "show") is None


def test_realms_are_compared_as_linotp_compares_them() -> None:
    found = parse(policy("reporting.access", "show", "ACME"))
    assert found.allowed_realms("ada", "show") == AllowedRealms(frozenset({"ACME"})), "LinOTP knows no such realm"


@pytest.mark.parametrize(
    ("realm", "statuses", "why"),
    [
        ("acme", {"active"}, "a policy for the realm wins over the one for all"),
        ("ACME", {"active"}, "in any case"),
        (
            "globex",
            {"inactive", "active&assigned", "assigned&active"},
            "policies that name it add up, spelling by spelling",
        ),
        ("initech", {"total"}, "the one for all"),
        ("umbrella", {"total"}, "named and denied in one list"),
    ],
)
def test_what_is_recorded_follows_linotps_precedence(realm: str, statuses: set[str], why: str) -> None:
    found = parse(
        policy("reporting", "token_total", name="1")
        + policy("reporting", "token_status=active", "Acme, umbrella, -umbrella", name="2")
        + policy("reporting", "token_status=inactive, token_status=active&assigned", "globex", name="3")
        + policy("reporting", "token_status=assigned&active", "globex", name="4")
    )
    intervals = RecordingHistory((Change(0, found.recording),)).intervals(realm)
    assert {WRITTEN_STATUSES[status] for status in intervals} == statuses, why


def test_a_bad_file_is_a_fault_of_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from api.settings.settings import ApiSettings

    path = written(tmp_path, "[a]\nscope = reporting\nrealm = *\naction = nonsense")
    monkeypatch.setenv("AUTHTALLY_AUTH", "none")
    monkeypatch.setenv("AUTHTALLY_REPORTING_POLICY_FILE", str(path))
    with pytest.raises(SettingsError, match=r"AUTHTALLY_REPORTING_POLICY_FILE: .*policy \[a\], action: 'nonsense'"):
        read(ApiSettings)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[a]\n" + b"#" * 2**20])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    from api.settings.reporting_policy import read as read_policies

    path = tmp_path / "policies.ini"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_policies(path)


def at(clock: Clock, text: str) -> None:
    clock.now = datetime.fromisoformat(text).timestamp()


async def test_a_status_counts_from_when_its_policy_was_read(
    serve: Serve, redis_url: str, tmp_path: Path, clock: Clock
) -> None:
    days = [state(f"2026-11-{day}T10:00:00Z", str(day), "token_init", "acme") for day in range(10, 14)]
    await write(redis_url, days)
    at(clock, "2026-11-12T00:00:00Z")
    path = written(tmp_path, policy("reporting", "token_status=active"))
    api = await serve(redis_url=redis_url, reporting_policy_file=path)
    assert [row["count"] for row in await rows(api)] == [1, 2, 3, 4], "the first from the beginning"

    written(tmp_path, policy("reporting", "token_status=active, token_status=unassigned&active", "acme"))
    clock.now += 1
    found = await rows(api, "status=active%26unassigned")
    assert [(row["parameter"], row["count"]) for row in found] == [("unassigned&active", 3), ("unassigned&active", 4)]

    written(tmp_path, policy("reporting", "token_total"))
    at(clock, "2026-11-13T00:00:00Z")
    assert [row["count"] for row in await rows(api, "status=active")] == [1, 2, 3], "until it was recorded no more"
    assert [row["count"] for row in await rows(api, "status=total")] == [1, 2, 3, 4], "for all time kept"

    written(tmp_path, policy("reporting", "token_status=active"))
    at(clock, "2026-11-13T12:00:00Z")
    assert await rows(api, "status=total"), "recorded meanwhile"
    assert [row["count"] for row in await rows(api, "status=total")] == [4]


async def test_maxima_leave_out_what_was_not_recorded(
    serve: Serve, redis_url: str, tmp_path: Path, clock: Clock
) -> None:
    log = [state(f"2026-11-10T{hour}:00:00Z", str(hour), "token_init", "acme") for hour in range(10, 15)]
    await write(redis_url, log)
    at(clock, "2026-11-10T09:00:00Z")
    path = written(tmp_path, policy("reporting", "token_status=active"))
    api = await serve(redis_url=redis_url, reporting_policy_file=path)
    assert await rows(api)
    written(tmp_path, policy("admin", "*"))
    at(clock, "2026-11-10T12:30:00Z")
    found = (await api.get("/reporting/maximum?status=active,inactive")).json["result"]["value"]
    assert found == {"acme": {"active": 3, "inactive": -1}}


async def test_a_change_is_recorded_once_and_outlives_the_process(
    serve: Serve, redis_url: str, tmp_path: Path, clock: Clock
) -> None:
    path = written(tmp_path, DOCUMENTED)
    for _ in range(2):
        api = await serve(redis_url=redis_url, reporting_policy_file=path)
        await rows(api)
    with redis.Redis.from_url(redis_url) as server:
        (only,) = server.lrange(keys.recordings("authtally:"), 0, -1)
    assert only.startswith(b"0 ")


async def test_a_file_that_went_bad_leaves_the_last_good_one(
    serve: Serve, redis_url: str, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, policy("reporting.access", "show"))
    api = await serve(redis_url=redis_url, reporting_policy_file=path)
    for spoil in (lambda: path.write_text("[a"), path.unlink):
        spoil()
        clock.now += 2
        assert (await api.get("/reporting/maximum")).json["result"]["error"]["code"] == 410
        assert (await api.get("/reporting/show")).json["result"]["status"] is True
    assert "file not usable, last valid content stays" in capsys.readouterr().out
