"""Every form in which other systems give past figures is read, and every fault in them is named by its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.cli.past_months import PastError, PastMonth, read
from schemas.ledger.periods import Month

NOW = Month(2026, 6)
TOKENS = {"authorization_code": {"access_token": 10, "id_token": 7}, "client_credentials": {"access_token": 2}}
COUNTS: dict[tuple[str, ...], int] = {
    ("token", "authorization_code", "access_token"): 10,
    ("token", "authorization_code", "id_token"): 7,
    ("token", "client_credentials", "access_token"): 2,
}
FIGURES = {"monthly_active_users": 5, "token_count_per_granttype": TOKENS}
MARCH = PastMonth(Month(2025, 3), 5, COUNTS)
APRIL = PastMonth(Month(2025, 4), 6, {})


def answer_body(answer: Any) -> bytes:
    return json.dumps(answer, indent=1).encode()


FORMS = [
    pytest.param(
        answer_body({"response": {"202503": FIGURES, "202504": {"monthly_active_users": 6}}}), id="map, documented"
    ),
    pytest.param(
        answer_body({"response": {"202504": {"month": "202504", "monthly_active_users": 6}, "202503": FIGURES}}),
        id="map with months inside, jsonmonth in source",
    ),
    pytest.param(
        answer_body({"response": [{"month": "202503"} | FIGURES, {"month": "202504", "monthly_active_users": 6}]}),
        id="list, source",
    ),
    pytest.param(
        answer_body(
            [
                {"month": "202503", "montly_active_users": 5, "token_count_per_granttype": TOKENS},
                {"month": "202504", "montly_active_users": 6, "monthly_active_users": 6},
            ]
        ),
        id="bare list, documented with its misspelling",
    ),
    pytest.param(
        b"\xef\xbb\xbf" + answer_body({"202503": FIGURES, "202504": {"monthly_active_users": 6}}), id="bare map"
    ),
    pytest.param(
        b"month,active_users,authorization_code/access_token,authorization_code/id_token,"
        b"client_credentials/access_token\n2025-03,5,10,7,2\n202504,6,,,\n",
        id="CSV",
    ),
    pytest.param(
        b"\xef\xbb\xbfmonth;active_users;client_credentials/access_token;authorization_code/access_token;"
        b'authorization_code/id_token\r\n\r\n"2025-03"; 5 ;2;10;"7"\r\n;;;;\r\n2025-04;6;;;\r\n',
        id="CSV of a spreadsheet",
    ),
]


@pytest.mark.parametrize("text", FORMS)
def test_every_form_is_read(text: bytes) -> None:
    assert read(text, NOW) == [MARCH, APRIL]


def test_other_figures_are_read() -> None:
    assert read(b"month,active_users,logins\n2025-03,5,70\n", NOW) == [PastMonth(Month(2025, 3), 5, {("login",): 70})]
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    (row,) = read(f"month,active_users,{grant}/access_token\n2025-03,5,0\n".encode(), NOW)
    assert row.counts == {("token", grant, "access_token"): 0}
    exported = {"data": {"202503": 5, "202504": 6}, "mau-signature": "5c9d"}
    assert [(row.month, row.active) for row in read(answer_body(exported), NOW)] == [
        (Month(2025, 3), 5),
        (Month(2025, 4), 6),
    ]


def item(**more: Any) -> bytes:
    return answer_body({"response": {"202503": FIGURES | more}})


HEADER = b"month,active_users,logins\n"
FAULTS = [
    pytest.param(b"", ["line 1: neither a JSON answer nor a CSV"], id="nothing"),
    pytest.param(b"\xff\xfe", ["not UTF-8"], id="not text"),
    pytest.param(b"# HELP monthly_active_users x\n", ["line 1: neither a JSON answer nor a CSV"], id="metrics"),
    pytest.param(b'{"response":', ["not JSON"], id="cut off"),
    pytest.param(b'{"a":' * 100_000, ["not JSON"], id="deep"),
    pytest.param(answer_body({"error": "access_denied"}), ["an error, not an answer: 'access_denied'"], id="an error"),
    pytest.param(b"[]", ["contains no month"], id="an empty list"),
    pytest.param(answer_body({"response": 5}), ["neither an object by month nor a list"], id="a number"),
    pytest.param(b'{"202503":1,"202503":2}', ["'202503' appears twice in one object"], id="a key twice"),
    pytest.param(b'{"202503":NaN}', ["not a number: NaN"], id="NaN"),
    pytest.param(answer_body([FIGURES]), ["entry 1: month: is missing"], id="no month"),
    pytest.param(answer_body([5]), ["entry 1: not an object: 5"], id="a list of numbers"),
    pytest.param(
        answer_body({"202513": FIGURES}),
        ["202513: `month` is '202513'; allowed: YYYY-MM or YYYYMM; example: 2025-03"],
        id="13th month",
    ),
    pytest.param(item(month="202504"), ["202503: month: is '202504'"], id="two months in one"),
    pytest.param(item(monthly_active_users=-1), ["202503: monthly_active_users: not between"], id="negative"),
    pytest.param(item(monthly_active_users=1.5), ["monthly_active_users: not a whole number: 1.5"], id="fraction"),
    pytest.param(item(monthly_active_users=True), ["monthly_active_users: not a whole number: True"], id="true"),
    pytest.param(item(monthly_active_users=10**400), ["monthly_active_users: not between"], id="huge"),
    pytest.param(item(montly_active_users=9), ["montly_active_users has another value"], id="two figures"),
    pytest.param(answer_body({"202503": {}}), ["202503: monthly_active_users: is missing"], id="no figure"),
    pytest.param(item(token_count_per_granttype=[]), ["token_count_per_granttype: not an object"], id="tokens"),
    pytest.param(
        item(token_count_per_granttype={"password": {"access_token": "5"}}),
        ["token_count_per_granttype: 'password': 'access_token': not a whole number: '5'"],
        id="a count",
    ),
    pytest.param(
        item(token_count_per_granttype={"x" * 300: {"access_token": 5}}), ["longer than 256 bytes"], id="a long name"
    ),
    pytest.param(
        item(token_count_per_granttype={f"g{n}": {"a": 1} for n in range(101)}),
        ["more than 100 grant types"],
        id="many names",
    ),
    pytest.param(item(operations_by_type={}), ["statistics of Janssen Lock"], id="another product's"),
    pytest.param(HEADER, ["contains no month"], id="a header alone"),
    pytest.param(b"month,users\n", ["line 1: neither a JSON answer nor a CSV"], id="other columns"),
    pytest.param(b"month,active_users,token\n", ["line 1: column 'token' is neither logins nor"], id="a column"),
    pytest.param(b"month,active_users,a/b,a/b\n", ["line 1: column 'a/b' appears twice"], id="a column twice"),
    pytest.param(b"month,active_users,/b\n", ["line 1: column '/b': an empty name"], id="an empty name"),
    pytest.param(
        HEADER + b"2025-03,,\n2025-03,5,x\nMarch,5,\n2025-04,5\n\n2030-01,5,\n1999-12,5,\n2025-05,5,\n2025-05,6,\n",
        [
            "line 2: active_users: not a whole number: ''",
            "line 3: logins: not a whole number: 'x'",
            "line 4: `month` is 'March'; allowed: YYYY-MM or YYYYMM; example: 2025-03",
            "line 5: has 2 cells, the header has 3",
            "line 7: month 2030-01 is not over",
            "line 8: month 1999-12 is before 2000",
            "line 10: month 2025-05 appears twice",
        ],
        id="each line for itself",
    ),
    pytest.param(HEADER + "2025-03,\u0665,\n".encode(), ["line 2: active_users: not a whole number"], id="digits"),
    pytest.param(HEADER + b'"2025-03,5,\n', ["line 2: not CSV"], id="an open quote"),
]


@pytest.mark.parametrize(("text", "faults"), FAULTS)
def test_every_fault_is_named_by_its_place(text: bytes, faults: list[str]) -> None:
    with pytest.raises(PastError) as wrong:
        read(text, NOW)
    assert len(wrong.value.faults) == len(faults)
    for found, expected in zip(wrong.value.faults, faults, strict=True):
        assert expected in found
