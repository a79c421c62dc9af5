"""What the own surface's answers look like, as JSON Schemas. All fields are always there unless said otherwise."""

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
EXACT: Final = {"type": "boolean", "description": "Counted one by one."}
ERROR: Final = _or_null(NUMBER, "Relative standard error of an estimate, 0.002 for 0.2 %; null where nobody knows it.")
VALUE: Final = _or_null(WHOLE, "Null where the days are no longer kept.")
FIGURE: Final[dict[str, Described]] = {"value": VALUE, "exact": EXACT, "standard_error": ERROR}
CHANGE: Final = _or_null(NUMBER, "Relative: 0.25 is a quarter more; null where there was nothing before.")
COMPLETE: Final = {
    "type": "boolean",
    "description": "False where labels or words found no room and count under `__other__`. For a bearer that is "
    "limited to realms it is about these realms only.",
}
UNATTRIBUTED: Final[Described] = {
    "type": ["integer", "null"],
    "minimum": 0,
    "description": "Failed logins of these periods and realms that no client can be given: their client id is not "
    "known from any success, or found no room. Only in answers that `client_id` filters or groups. Null where too many "
    "counters would have to be read.",
}
SINCE: Final[Described] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "null"], "format": "date-time"},
    "description": "Settings whose present value holds only from some time within these days on; null where the "
    "ledger's time of it cannot be a date.",
}
FILTERS: Final[Described] = {"type": "object", "additionalProperties": TEXT}
USAGE: Final[dict[str, Described]] = {
    "used": WHOLE,
    "limit": _or_null(WHOLE, "Of the quotas file."),
    "percent": _or_null(NUMBER, "Of the limit."),
    "projected": {"type": "integer", "minimum": 0, "description": "By the month's end, at the present pace."},
    "projected_percent": _or_null(NUMBER, "Of the limit."),
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
LEFT_OUT: Final = _object("Groups beyond `limit`, and what they add up to.", {"groups": WHOLE}, {"count": WHOLE})


def _counts(
    name: str,
    measures: Mapping[str, Described],
    words: Mapping[str, Described],
    head: Mapping[str, Described] | None = None,
) -> Described:
    item = _object(
        "Counts of one period, and of one group where `group_by` is given.",
        {"period": TEXT, **DAYS, "exact": FLAG},
        {**measures, **LABELS, **words},
    )
    return _object(f"Series of {name}.", {**HEAD, "items": _list(item)}, {"left_out": LEFT_OUT, **(head or {})})


_BEFORE: Final = _object("The days before.", {**DAYS, **FIGURE})
_COMPARED: Final = _object("Distinct active users.", {**DAYS, **FIGURE, "previous": _BEFORE, "change": CHANGE})
_MEASURE: Final = _object("A count.", {"value": VALUE, "previous": VALUE, "change": CHANGE})
_ACTIVITY: Final = _object(
    "What happened in these days.",
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
    "A month; its figures are null where nothing is held.",
    {
        "month": TEXT,
        "to_date": {"type": "boolean", "description": "Not over yet."},
        **FIGURE,
        "logins": VALUE,
        "failed_logins": VALUE,
        "signups": VALUE,
        "tokens": VALUE,
        "imported": _or_null(TEXT, "Where the figures are from, of a month that was counted elsewhere."),
    },
    {"unattributed": UNATTRIBUTED},
)
UNREADABLE: Final = _or_null(WHOLE, "Null where the ledger holds something that cannot be a count.")
_PARTITION: Final = _object(
    "One partition. consumed = counted + duplicates + ignored + dead. A time is null where there is none, and where "
    "the ledger holds something that cannot be a date between 1970 and 9999, such as microseconds for milliseconds.",
    {
        "topic": TEXT,
        "partition": WHOLE,
        "position": _or_null(WHOLE, "The next offset to count."),
        "end": _or_null(WHOLE, "The log's end, when last `seen`."),
        "stable_end": _or_null(WHOLE, "Up to which transactions have ended."),
        "seen": _or_null(TIME, "When a worker last looked at the log's end."),
        "lag": _or_null(WHOLE, "Offsets still to be read."),
        "last_event": _or_null(TIME, "When the newest event happened."),
        "last_record": _or_null(TIME, "When the newest record was written to the log."),
        **dict.fromkeys(("consumed", "counted", "duplicates", "ignored", "dead"), UNREADABLE),
        "dead_by_reason": {"type": "object", "additionalProperties": UNREADABLE},
        "adds_up": FLAG,
        "untimed": _or_null(WHOLE, "Records without a usable timestamp; they are part of consumed."),
        "unexpected": {**WHOLE, "description": "Records that a defect kept from being counted; all are dead letters."},
        "unexpected_allowed": _or_null(WHOLE, "Beyond so many `unexpected` the partition stops."),
        "lost": _or_null(WHOLE, "Offsets that the log had dropped before they were read; not consumed."),
        "refused": _or_null(WHOLE, "Scripts that wrote nothing because the shard stood elsewhere."),
        "refused_last": _or_null(TIME, "When that happened last."),
        "ids_held": {**WHOLE, "description": "Event ids by which duplicates are known."},
        "ids_from": _or_null(TIME, "The window of those, by record time."),
        "ids_until": _or_null(TIME, "Its end."),
        "ids_given_up_before": _or_null(TIME, "Before this, ids were given up for want of room."),
    },
)

SCHEMAS: Final[dict[str, Described]] = {
    "Problem": _object(
        "A problem document (RFC 9457).",
        {"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT},
        {"parameter": {"type": "string", "description": "The parameter that is wrong, where it is one."}},
    ),
    "AsOf": _object(
        "Of which moment the answer is.",
        {
            "newest_event": _or_null(
                TIME, "When the newest event that is counted happened. Times that cannot be a date are passed over."
            ),
            "lag": _or_null(WHOLE, "Records still to be counted, when a worker last looked."),
        },
    ),
    "Definition": _object(
        "What makes a user active.",
        {
            "active_on": _list(TEXT),
            "user_scope": {
                **_list(TEXT),
                "description": "`global`, or `realm`: each realm has users of its own.",
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
                    {**LABELS, "imported": TEXT},
                )
            ),
        },
        {"left_out": LEFT_OUT},
    ),
    "Logins": _counts(
        "logins", {"succeeded": WHOLE, "failed": WHOLE}, {"reason": TEXT}, {"unattributed": UNATTRIBUTED}
    ),
    "Tokens": _counts("tokens", {"tokens": WHOLE}, {"grant_type": TEXT, "token_type": TEXT}),
    "Accounts": _counts("accounts", {"events": WHOLE}, {"kind": TEXT}),
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
            "months": {**_list(_MONTH), "description": "The twelve months up to that of the day."},
            "billing": _object(
                "Of those months that have figures.",
                {
                    "average": _or_null(NUMBER, "Active users of the months that are over, on average."),
                    "months_averaged": WHOLE,
                    "maximum": _or_null(WHOLE, "The most of any month."),
                    "maximum_month": _or_null(TEXT, "Which one."),
                },
            ),
        },
    ),
    "Labels": _object(
        "What is told apart.",
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
            "tenant": _object("All clients; the limit only for bearers of all realms.", USAGE),
            "active_clients": _object("Clients that somebody logged in to, or that were issued tokens.", FIGURE),
            "items": _list(_object("One client.", {"realm": TEXT, "client_id": TEXT, **USAGE})),
            "left_out": _object("Clients beyond `limit`.", {"groups": WHOLE, "used": WHOLE}),
        },
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
                "description": "False where a defect kept the state of some token from being counted (`unexpected`).",
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
            "logins": WHOLE,
            "failed_logins": WHOLE,
            "signups": WHOLE,
            "tokens": WHOLE,
            "as_of": ref("AsOf"),
            "dead_letters": _or_null(WHOLE, "Of all time; null for bearers that are limited to realms."),
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
