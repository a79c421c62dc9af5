"""LinOTP's manual, 1.17.2 Reporting."""

from __future__ import annotations

from typing import Any, Final

from tests.api.documents.statement import PRESENT, Statement

SHOW: Final = "/reporting/show"
PERIOD: Final = "/reporting/period"
MAXIMUM: Final = "/reporting/maximum"
POLICIES: Final = "tests/api/settings/test_reporting_policy.py::test_the_documented_policies_are_a_valid_file"
SESSIONS: Final = "tests/api/auth/test_sessions.py::test_a_session_asks_as_its_bearer"
REPORTING: Final = "tests/api/dialects/linotp/test_reporting.py::"
SESSION: Final = "session=45e939b02"
"""The documents' value stands for a cookie; these requests need none (AUTH=none)."""
GROUPED: Final = "`/:no realm:/`"


def value(found: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0802", "result": {"status": True, "value": found}, "id": 1}


def row(count: int, parameter: str, event: str, time: str, realm: str = "realm1") -> dict[str, Any]:
    empty = {"description": "", "detail": "", "value": "", "session": ""}
    return {"count": count, "realm": realm, "timestamp": time, "parameter": parameter, "event": event} | empty


def shown(rows: list[Any], total: int) -> dict[str, Any]:
    return value({"resultset": {"page": 1, "pages": 1, "pagesize": total, "report_rows": total}, "data": rows})


ACTIVE: Final = row(132, "active", "token_tokenrealm", "2016-07-25 13:27:47")
TOTAL: Final = row(150, "total", "token_tokenrealm", "2016-07-25 13:27:47")
OTHER: Final = row(300, "active", "token_tokenrealm", "2016-07-25 13:27:54", "realm2")
REST: Final = [PRESENT] * 27
PAIR: Final = "unassigned&active"
PAIRS: Final = [
    row(11, PAIR, "token_enable", "2016-07-26 11:37:58"),
    row(12, PAIR, "token_init", "2016-07-26 13:00:10"),
    *[PRESENT] * 4,
]
APRIL: Final = "from=2022-04-01&to=2022-05-01"
PERIOD_SAMPLE: Final = [
    {"name": "users", "maxtokencount": {"active": 6, "assigned": 6, "active&assigned": 6}},
    {"name": "admin", "maxtokencount": {"active": None, "assigned": None, "active&assigned": None}},
    {"name": "realm2_user", "maxtokencount": {"active": 1, "assigned": 1, "active&assigned": 1}},
]
STATUSES: Final = {
    "active": (2, "counts only active tokens"),
    "inactive": (1, "counts only deactivated tokens"),
    "assigned": (1, "counts only tokens assigned to users"),
    "unassigned": (2, "counts only tokens which are not assigned"),
    "active&assigned": (1, "active and assigned"),
    "active&unassigned": (1, "active and not assigned"),
    "inactive&assigned": (0, "disabled and assigned"),
    "inactive&unassigned": (1, "disabled and not assigned"),
    "total": (3, "counts all tokens that are assigned to a realm"),
}


def status_row(status: str, count: int, text: str) -> Statement:
    quoted = status.replace("&", "%26")
    return Statement(
        f"`{status}` {text}",
        f"{SHOW}?status={quoted}&realms=realm1&sortdir=desc&page=1&pagesize=1",
        value({"data": [{"parameter": status, "count": count}]}),
        world="states",
    )


def deleted(action: str, query: str, count: int, text: str, world: str = "deletes", **rest: Any) -> Statement:
    return Statement(text, f"/reporting/{action}?{SESSION}{query}", value(count), world=world, **rest)


STATEMENTS: Final = [
    Statement(
        "`https://<LINOTP>/reporting/<ReportingController>?session=SESSIONCOOKIE`", f"{SHOW}?{SESSION}", value(PRESENT)
    ),
    Statement("The controller `show`: historical counts", SHOW, value({"data": [PRESENT] * 30})),
    Statement(
        "The controller `period`: counts of a period",
        f"{PERIOD}?from=2016-07-01&to=2016-08-01",
        value({"period": PRESENT, "realms": PRESENT}),
    ),
    Statement("The controller `maximum`: the highest counts", MAXIMUM, value({"realm1": PRESENT})),
    deleted("delete_all", "&status=*", 586, "The controller `delete_all`: clears the counters"),
    deleted(
        "delete_before",
        "&date=2016-07-22",
        157,
        "The controller `delete_before`: deletes what was recorded before a date",
    ),
    Statement(
        "The session cookie comes from `admin/getsession`",
        "/admin/getsession",
        {"result": {"status": True}},
        headers={"Set-Cookie": "admin_session="},
    ),
    Statement(
        "Queries are configured by policies before",
        "",
        verdict="differs",
        why="without `REPORTING_POLICY_FILE` every status is recorded, and the scope `reporting` is enough",
        proof=POLICIES,
    ),
    Statement(
        "A count follows an event that may change it",
        f"{SHOW}?status=total&realms=realm1",
        value({"data": [PRESENT] * 4}),
        world="states",
    ),
    Statement("Only events since the activation are evaluated", "", proof=REPORTING + "test_given_rows_are_rows"),
    Statement("The sample policy `Reporting` with nine actions", "", proof=POLICIES),
    Statement("`token_status=` may be used several times", "", proof=POLICIES),
    Statement("The sample policy `Reporting_access` with five actions", "", proof=POLICIES),
    Statement(
        "Tokens without a realm are not reported by `maximum`", MAXIMUM, value({"realm1": {"total": 3}}), world="states"
    ),
    Statement(
        "Tokens without a realm are not reported by `period`",
        PERIOD,
        value({"realms": [{"name": "realm1"}]}),
        world="states",
    ),
    Statement(
        "Tokens without a realm in `show`",
        f"{SHOW}?status=total&realms=%2F:no%20realm:%2F",
        value({"data": [{"count": 1}]}),
        verdict="as the product",
        why=f"under {GROUPED}",
        world="states",
    ),
    Statement(
        "Exact numbers need a call for each realm",
        f"{MAXIMUM}?realms=realm1",
        value({"realm1": {"total": 270}}),
        world="maxima",
    ),
    Statement(
        "`token_total` is read by `reporting/maximum`", MAXIMUM, value({"realm1": {"total": 270}}), world="maxima"
    ),
    Statement("`token_total` is read by `reporting/period`", PERIOD, value({"realms": PRESENT}), world="maxima"),
    Statement(
        "`token_total` is read by `reporting/status`",
        "/reporting/status",
        {"result": {"status": False, "error": {"code": -311}}},
        verdict="differs",
        why="no version of LinOTP has this route; `show?status=total` answers",
        status=404,
    ),
    Statement(
        "`token_total` covers the time back to the last `delete_before`",
        f"{SHOW}?status=total",
        value({"data": PRESENT}),
        world="maxima",
    ),
    Statement(
        "The total needs neither status nor realms",
        MAXIMUM,
        value({"realm1": {"total": 270}, "realm2": {"total": 178}}),
        world="maxima",
    ),
    *(status_row(status, count, text) for status, (count, text) in STATUSES.items()),
    deleted("delete_all", "&status=*&realms=realm1", 432, "`*` stands for each status in `delete_all`"),
    deleted("delete_before", "&status=*&date=2016-07-22", 225, "`*` stands for each status in `delete_before`"),
    Statement("`*` is for deletes only", f"{MAXIMUM}?status=*", {"result": {"status": False, "error": {"code": -311}}}),
    Statement(
        "`period` takes `from=YYYY-mm-dd&to=YYYY-mm-dd`",
        f"{PERIOD}?{APRIL}",
        value({"period": {"from": "2022-04-01T00:00:00", "to": "2022-05-01T00:00:00"}}),
        world="period",
    ),
    Statement(
        "`status=active%26assigned` with `from=2022-04-01&to=2022-05-01`",
        f"{PERIOD}?status=active%26assigned&{APRIL}",
        value(
            {
                "realms": [
                    {"name": "users", "maxtokencount": {"active&assigned": 6}},
                    {"name": "admin", "maxtokencount": {"active&assigned": None}},
                    {"name": "realm2_user", "maxtokencount": {"active&assigned": 1}},
                ]
            }
        ),
        world="period",
    ),
    Statement(
        "`reporting/show?` without parameters returns all rows", f"{SHOW}?", shown([ACTIVE, TOTAL, OTHER, *REST], 30)
    ),
    Statement("… with a valid session only", "", proof=SESSIONS),
    Statement(
        "Deleting the index leads to its rebuild by the next change",
        "",
        verdict="differs",
        why="the present totals are kept apart from the rows: the next row has the right count at once",
        proof=REPORTING + "test_deletes_race_with_a_worker_that_writes",
    ),
    Statement(
        "`reporting/show?session=<session>&status=total&sortby=timestamp&sortdir=desc&pagesize=1&page=1&realms=<realm>`",
        f"{SHOW}?session=<session>&status=total&sortby=timestamp&sortdir=desc&pagesize=1&page=1&realms=realm1",
        value({"resultset": {"page": 1, "pagesize": 1}, "data": [{"parameter": "total"}]}),
    ),
    Statement(
        "`reporting/period?session=<session>&status=active,assigned,active%26assigned,unassigned&from=2022-03-01&to=2022-04-01`",
        f"{PERIOD}?session=<session>&status=active,assigned,active%26assigned,unassigned&from=2022-03-01&to=2022-04-01",
        value({"period": {"from": "2022-03-01T00:00:00"}, "realms": PRESENT}),
        world="period",
    ),
    Statement("`session` is the cookie of a valid admin session", "", proof=SESSIONS),
    Statement(
        "`status` takes several, with commas",
        f"{MAXIMUM}?status=active%26assigned,active&realms=realm1",
        value({"realm1": {"active&assigned": 1, "active": 2}}),
        world="states",
    ),
    Statement("`sortby` is optional", f"{SHOW}?status=total", value(PRESENT)),
    Statement("`pagesize=1&page=1` is optional", f"{SHOW}?status=total&pagesize=1&page=1", value({"data": [PRESENT]})),
    Statement(
        "`realms` limits the output to a realm", f"{SHOW}?realms=realm1&status=active", value({"data": [ACTIVE]})
    ),
    Statement(
        "`from` and `to` are the period of the report",
        f"{PERIOD}?{APRIL}&status=active",
        value({"realms": PRESENT}),
        world="period",
    ),
    Statement(
        "`/reporting/maximum?` is the highest number in the status",
        f"{MAXIMUM}?status=active&realms=realm1",
        value({"realm1": {"active": 2}}),
        world="states",
    ),
    Statement(
        "`reporting/maximum?session=<session>&status=active,assigned,active%26assigned,unassigned,active,inactive`",
        f"{MAXIMUM}?session=<session>&status=active,assigned,active%26assigned,unassigned,active,inactive",
        value({"realm1": {"active": 2, "assigned": 1, "active&assigned": 1, "unassigned": 2, "inactive": 1}}),
        world="states",
    ),
    Statement("`show`: `realms` and `status` are optional", SHOW, value({"resultset": {"report_rows": 30}})),
    Statement(
        "Queries use the states as the policy spells them",
        f"{SHOW}?status=active%26unassigned",
        shown(PAIRS, 6),
        verdict="differs",
        why="both orders of a pair are the same state",
        world="pairs",
    ),
    Statement(
        "The sample of `show?session=45e939b02[...]`: page 1 of 1, 30 rows",
        f"{SHOW}?{SESSION}",
        shown([ACTIVE, TOTAL, OTHER, *REST], 30),
    ),
    Statement(
        "The sample of `show?…&realms=realm1,realm2`",
        f"{SHOW}?{SESSION}&realms=realm1,realm2",
        shown([ACTIVE, TOTAL, OTHER, *REST], 30),
    ),
    Statement(
        "The sample of `show?…&status=unassigned%26active`: 6 rows",
        f"{SHOW}?{SESSION}&status=unassigned%26active",
        shown(PAIRS, 6),
        world="pairs",
    ),
    Statement(
        '`"version": "LinOTP 2.9"`',
        SHOW,
        {"version": "LinOTP 2.12.5"},
        verdict="differs",
        why="one version for all samples: LinOTP 2.12.5, the newest of them",
    ),
    Statement('`"jsonrpc": "2.0802"` and `"id": 1`', MAXIMUM, {"jsonrpc": "2.0802", "id": 1}),
    Statement(
        "The sample of `period?…&status=active,assigned,assigned%26activei`",
        f"{PERIOD}?{SESSION}&status=active,assigned,assigned%26activei&{APRIL}",
        {"result": {"status": False, "error": {"code": -311}}},
        verdict="differs",
        why="`activei` is a misprint; LinOTP refuses it, too",
        world="period",
    ),
    Statement(
        "The same with `assigned%26active`: three realms, one of them null",
        f"{PERIOD}?{SESSION}&status=active,assigned,assigned%26active&{APRIL}",
        value({"realms": PERIOD_SAMPLE}),
        world="period",
    ),
    Statement(
        "The sample's `from` is after its `to`",
        f"{PERIOD}?status=active&{APRIL}",
        value({"period": {"from": "2022-04-01T00:00:00", "to": "2022-05-01T00:00:00"}}),
        verdict="differs",
        why="a misprint of the document: both stand as requested",
        world="period",
    ),
    Statement(
        "`maximum?…[&realms=REALMA,REALMB,...]`",
        f"{MAXIMUM}?{SESSION}&realms=realm1,realm2",
        value({"realm1": PRESENT, "realm2": PRESENT}),
        world="maxima",
    ),
    Statement(
        "`maximum?…[&status=STATEA[%26STATEB][,STATEC[%26STATED]]]`",
        f"{MAXIMUM}?{SESSION}&status=active%26assigned,inactive%26unassigned&realms=realm1",
        value({"realm1": {"active&assigned": 1, "inactive&unassigned": 1}}),
        world="states",
    ),
    Statement(
        "The sample of `maximum`: 270 and 178",
        f"{MAXIMUM}?{SESSION}",
        value({"realm1": {"total": 270}, "realm2": {"total": 178}}),
        world="maxima",
    ),
    Statement(
        "The sample of `maximum?…&status=inactive,unassigned&realms=realm1`",
        f"{MAXIMUM}?{SESSION}&status=inactive,unassigned&realms=realm1",
        value({"realm1": {"unassigned": 15, "inactive": 25}}),
        world="maxima",
    ),
    deleted("delete_all", "", 157, "`delete_all` without `status` deletes `total` only"),
    deleted("delete_all", "&status=inactive", 18, "`delete_all` without `realms` processes all realms"),
    deleted("delete_all", "&status=*", 586, "The sample of `delete_all?…&status=*`: 586"),
    deleted("delete_all", "&status=*&realms=realm1", 432, "The sample of `delete_all?…&status=*&realms=realm1`: 432"),
    deleted("delete_all", "&status=inactive,disable", 18, "The sample of `delete_all?…&status=inactive,disable`: 18"),
    Statement(
        "Deletes by `GET`",
        "/reporting/delete_all?status=*",
        {"result": {"status": False}},
        verdict="as the product",
        why="405 with `LINOTP_SHAPE=source`: LinOTP's deletes are `POST` only",
        status=405,
        settings={"linotp_shape": "source"},
    ),
    deleted("delete_before", "&date=2016-07-22", 157, "`delete_before` takes a date in the format YYYY-MM-DD"),
    Statement(
        "`delete_before` without a date",
        "/reporting/delete_before",
        {"result": {"status": False, "error": {"code": -311}}},
    ),
    deleted("delete_before", "&date=2016-07-28", 157, "`delete_before` without `status` deletes `total` only"),
    deleted(
        "delete_before", "&status=active&date=2016-07-26", 68, "`delete_before` without `realms` processes all realms"
    ),
    deleted("delete_before", "&date=2016-07-22", 157, "The sample of `delete_before?…&date=2016-07-22`: 157"),
    deleted(
        "delete_before",
        "&status=active&realms=realm1&date=2016-07-26",
        68,
        "The sample of `delete_before?…&status=active&realms=realm1&date=2016-07-26`: 68",
    ),
]
