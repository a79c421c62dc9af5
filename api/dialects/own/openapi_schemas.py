"""JSON Schemas of the own surface's answers. Every field is always present unless its description says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Described = dict[str, Any]


def ref(name: str) -> Described:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(
    description: str, properties: Mapping[str, Described], optional: Mapping[str, Described] | None = None
) -> Described:
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "properties": {**properties, **(optional or {})},
    }


def _list(items: Described) -> Described:
    return {"type": "array", "items": items}


def _or_null(schema: Described, description: str) -> Described:
    return {**schema, "type": [schema["type"], "null"], "description": description}


DAY: Final = {"type": "string", "format": "date"}
TIME: Final[Described] = {"type": "string", "format": "date-time"}
TEXT: Final[Described] = {"type": "string"}
WHOLE: Final[Described] = {"type": "integer", "minimum": 0}
NUMBER: Final = {"type": "number"}
FLAG: Final = {"type": "boolean"}
BY_NAME: Final[Described] = {"type": "object", "additionalProperties": WHOLE}
DAYS: Final[dict[str, Described]] = {"from": DAY, "to": DAY}
LABELLED: Final = ["realm", "client_id", "node"]
LABELS: Final[dict[str, Described]] = {"realm": TEXT, "client_id": TEXT, "node": TEXT}
EXACT: Final = {"type": "boolean", "description": "True if users were counted one by one."}
ERROR: Final = _or_null(NUMBER, "Relative standard error of an estimate, 0.002 for 0.2 %; null if unknown.")
VALUE: Final = _or_null(WHOLE, "Null if the days are no longer kept.")
FIGURE: Final[dict[str, Described]] = {"value": VALUE, "exact": EXACT, "standard_error": ERROR}
CHANGE: Final = _or_null(
    NUMBER, "Relative change: 0.25 is a quarter more; null if a value is missing or the previous one is 0."
)
COMPLETE: Final = {
    "type": "boolean",
    "description": "False if labels or words overflowed and count under `__other__`. For a bearer limited to realms it "
    "covers these realms only.",
}
UNATTRIBUTED: Final[Described] = {
    "type": ["integer", "null"],
    "minimum": 0,
    "description": "Failed logins of these periods and realms without a known client: no successful event has their "
    "client id, or it overflowed. Only in answers filtered or grouped by `client_id`. Null if too many counters would "
    "have to be read.",
}
SINCE: Final[Described] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "null"], "format": "date-time"},
    "description": "Settings that changed within these days, each with the start of its present value; null if the "
    "ledger's time is not valid.",
}
FILTERS: Final[Described] = {"type": "object", "additionalProperties": TEXT}
USAGE: Final[dict[str, Described]] = {
    "used": _or_null(WHOLE, "Null if an imported month does not have it."),
    "limit": _or_null(WHOLE, "The limit in the quotas file."),
    "percent": _or_null(NUMBER, "Percentage of the limit."),
    "projected": _or_null(WHOLE, "The number at the month's end, at the present rate."),
    "projected_percent": _or_null(NUMBER, "Percentage of the limit."),
}
HEAD: Final[dict[str, Described]] = {
    **DAYS,
    "granularity": TEXT,
    "timezone": TEXT,
    "filters": FILTERS,
    "as_of": ref("AsOf"),
    "complete": COMPLETE,
    "since": SINCE,
}
IMPORTED: Final[Described] = {"type": "string", "description": "The source, in an imported month only."}
COUNT: Final = _or_null(WHOLE, "Null if an imported month does not have it.")
TODAY: Final = _or_null(WHOLE, "Null if no days are kept.")
LEFT_OUT: Final = _object("Groups beyond `limit`, and their sum.", {"groups": WHOLE}, {"count": WHOLE})


def _counts(
    name: str,
    measures: Mapping[str, Described],
    words: Mapping[str, Described],
    head: Mapping[str, Described] | None = None,
) -> Described:
    item = _object(
        "Counts of one period, and of one group where `group_by` is given.",
        {"period": TEXT, **DAYS, "exact": FLAG},
        {**measures, **LABELS, **words, "imported": IMPORTED},
    )
    return _object(f"Series of {name}.", {**HEAD, "items": _list(item)}, {"left_out": LEFT_OUT, **(head or {})})


_BEFORE: Final = _object("The previous days.", {**DAYS, **FIGURE}, {"imported": IMPORTED})
_COMPARED: Final = _object(
    "Distinct active users.", {**DAYS, **FIGURE, "previous": _BEFORE, "change": CHANGE}, {"imported": IMPORTED}
)
_MEASURE: Final = _object("A count.", {"value": VALUE, "previous": VALUE, "change": CHANGE})
_ACTIVITY: Final = _object(
    "Events of these days.",
    {
        **DAYS,
        "logins": _MEASURE,
        "failed_logins": _MEASURE,
        "signups": _MEASURE,
        "tokens": _MEASURE,
        "failed_logins_by_reason": BY_NAME,
        "tokens_by_grant_type": BY_NAME,
    },
    {"unattributed": {**_MEASURE, "description": f"A count. {UNATTRIBUTED['description']}"}},
)
_MONTH: Final = _object(
    "A month; its figures are null if the ledger has none.",
    {
        "month": TEXT,
        "to_date": {"type": "boolean", "description": "True if the month is not over."},
        **FIGURE,
        "logins": VALUE,
        "failed_logins": VALUE,
        "signups": VALUE,
        "tokens": VALUE,
        "imported": _or_null(TEXT, "The source of imported figures."),
    },
    {"unattributed": UNATTRIBUTED},
)
UNREADABLE: Final = _or_null(WHOLE, "Null if the ledger's value is not a valid count.")
_PARTITION: Final = _object(
    "One partition. consumed = counted + duplicates + ignored + dead. A time is null if there is none, or if the "
    "ledger's value is not a date between 1970 and 9999, for example microseconds instead of milliseconds.",
    {
        "topic": TEXT,
        "partition": WHOLE,
        "position": _or_null(WHOLE, "The next offset to count."),
        "end": _or_null(WHOLE, "The end of the log at the time `seen`."),
        "stable_end": _or_null(WHOLE, "The offset below which all transactions have ended."),
        "seen": _or_null(TIME, "When a worker last read the log's end."),
        "lag": _or_null(WHOLE, "Offsets not yet read."),
        "last_event": _or_null(TIME, "The time of the newest event."),
        "last_record": _or_null(TIME, "The time at which the newest record was written to the log."),
        **dict.fromkeys(("consumed", "counted", "duplicates", "ignored", "dead"), UNREADABLE),
        "dead_by_reason": {"type": "object", "additionalProperties": UNREADABLE},
        "unknown_by_type": {
            "type": "object",
            "additionalProperties": UNREADABLE,
            "description": "Ignored elements by event type, if the type is unknown.",
        },
        "adds_up": FLAG,
        "untimed": _or_null(WHOLE, "Records without a usable timestamp; included in consumed."),
        "unexpected": {**WHOLE, "description": "Records not counted because of a defect; all are dead letters."},
        "unexpected_allowed": _or_null(WHOLE, "The number of `unexpected` beyond which the partition stops."),
        "lost": _or_null(WHOLE, "Offsets that the log deleted before they were read; not consumed."),
        "refused": _or_null(WHOLE, "Scripts that wrote nothing: the stored position was not the start of the range."),
        "refused_last": _or_null(TIME, "The time of the last refusal."),
        "ids_held": {**WHOLE, "description": "Event ids by which duplicates are recognised."},
        "ids_from": _or_null(TIME, "The start of the window of these ids, by record time."),
        "ids_until": _or_null(TIME, "The end of that window."),
        "ids_given_up_before": _or_null(TIME, "Ids before this time were evicted because the window was full."),
    },
)

SCHEMAS: Final[dict[str, Described]] = {
    "Problem": _object(
        "A problem document (RFC 9457).",
        {"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT},
        {"parameter": {"type": "string", "description": "The name of the invalid parameter, if there is one."}},
    ),
    "AsOf": _object(
        "The moment of the answer.",
        {
            "newest_event": _or_null(TIME, "The time of the newest counted event. Invalid times are ignored."),
            "lag": _or_null(WHOLE, "Records not yet counted when a worker last read the log's end."),
        },
    ),
    "Definition": _object(
        "The definition of an active user.",
        {
            "active_on": _list(TEXT),
            "user_scope": {
                **_list(TEXT),
                "description": "`global`, or `realm` if each realm has its own users.",
            },
        },
    ),
    "ActiveUsers": _object(
        "Series of distinct active users.",
        {
            **HEAD,
            "definition": ref("Definition"),
            "items": _list(
                _object(
                    "Users of one period, and of one group where `group_by` is given.",
                    {"period": TEXT, **DAYS, **FIGURE},
                    {**LABELS, "imported": IMPORTED},
                )
            ),
        },
        {"left_out": LEFT_OUT},
    ),
    "Logins": _counts(
        "logins", {"succeeded": COUNT, "failed": COUNT}, {"reason": TEXT}, {"unattributed": UNATTRIBUTED}
    ),
    "Tokens": _counts("tokens", {"tokens": COUNT}, {"grant_type": TEXT, "token_type": TEXT}),
    "Accounts": _counts("accounts", {"events": COUNT}, {"kind": TEXT}),
    "Overview": _object(
        "The figures of one day.",
        {
            "date": DAY,
            "timezone": TEXT,
            "filters": FILTERS,
            "as_of": ref("AsOf"),
            "complete": COMPLETE,
            "definition": ref("Definition"),
            "dau": _COMPARED,
            "wau": _COMPARED,
            "mau": _COMPARED,
            "rolling_7_days": _COMPARED,
            "rolling_30_days": _COMPARED,
            "stickiness": _or_null(NUMBER, "`dau` divided by `rolling_30_days`."),
            "activity": _object("Counts.", {"day": _ACTIVITY, "month": _ACTIVITY}),
            "months": {**_list(_MONTH), "description": "The twelve months up to that of `date`."},
            "billing": _object(
                "Figures of the months that have any.",
                {
                    "average": _or_null(NUMBER, "Average active users of complete months."),
                    "months_averaged": WHOLE,
                    "maximum": _or_null(WHOLE, "The maximum of all months."),
                    "maximum_month": _or_null(TEXT, "The month of the maximum."),
                },
            ),
        },
    ),
    "Labels": _object(
        "Known labels.",
        {
            "as_of": ref("AsOf"),
            "complete": COMPLETE,
            "items": _list(_object("One label.", {"dimension": {"type": "string", "enum": LABELLED}}, LABELS)),
            "left_out": LEFT_OUT,
        },
    ),
    "M2m": _object(
        "Usage of a month.",
        {
            "month": TEXT,
            "timezone": TEXT,
            "filters": FILTERS,
            "as_of": ref("AsOf"),
            "complete": COMPLETE,
            "since": SINCE,
            "tenant": _object("All clients; the limit is shown only to bearers of all realms.", USAGE),
            "active_clients": _object("Clients with a login or an issued token.", FIGURE),
            "items": _list(_object("One client.", {"realm": TEXT, "client_id": TEXT, **USAGE})),
            "left_out": _object("Clients beyond `limit`.", {"groups": WHOLE, "used": WHOLE}),
        },
        {"imported": IMPORTED},
    ),
    "OtpTokens": _object(
        "One-time-password tokens.",
        {
            **DAYS,
            "granularity": {"type": "string", "enum": ["now", "day"]},
            "timezone": TEXT,
            "as_of": ref("AsOf"),
            "complete": {
                "type": "boolean",
                "description": "False if a token's state was not counted because of a defect (`unexpected`).",
            },
            "items": _list(
                _object(
                    "One realm and status.",
                    {"realm": TEXT, "status": TEXT, "count": WHOLE},
                    {"date": DAY, "maximum": WHOLE},
                )
            ),
        },
    ),
    "Live": _object(
        "The figures of today so far, as `/v1/live` sends them.",
        {
            "date": DAY,
            "timezone": TEXT,
            "active_users": _object("Distinct active users.", FIGURE),
            **dict.fromkeys(("logins", "failed_logins", "signups", "tokens"), TODAY),
            "as_of": ref("AsOf"),
            "dead_letters": _or_null(WHOLE, "All dead letters so far; null for bearers limited to realms."),
        },
    ),
    "Pipeline": _object(
        "All partitions.",
        {
            "as_of": ref("AsOf"),
            "total": _object(
                "Sums.",
                {
                    **dict.fromkeys(("lag", "consumed", "counted", "duplicates", "ignored", "dead"), WHOLE),
                    **dict.fromkeys(("untimed", "unexpected", "lost", "refused"), WHOLE),
                    "adds_up": FLAG,
                },
            ),
            "items": _list(_PARTITION),
        },
    ),
}
