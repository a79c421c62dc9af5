"""When each shipped alert fires, and when it does not: what tests/deploy/test_alerts.py has Prometheus try."""

from __future__ import annotations

from typing import Final, NamedTuple

WORKER: Final = 'job="authtally-worker",instance="w1"'
API: Final = 'job="authtally-api",instance="a1"'
SHARD: Final = 'topic="t",partition="0"'
JOB: Final = 'scope="client",realm="acme",client_id="job"'
UP: Final = {f"up{{{WORKER}}}": "1x90", f"up{{{API}}}": "1x90"}


class Case(NamedTuple):
    """Samples in Prometheus' notation, one each `step`; when to look; the labels of what fires then, if anything."""

    alert: str
    why: str
    series: dict[str, str]
    at: str
    fires: list[dict[str, str]]
    step: str = "1m"


def quota(used: str, limit: str, projected: str = "0x600") -> dict[str, str]:
    return {
        f"authtally_m2m_tokens{{{JOB}}}": used,
        f"authtally_m2m_tokens_limit{{{JOB}}}": limit,
        f"authtally_m2m_tokens_projected{{{JOB}}}": projected,
    }


CLIENT: Final = {"scope": "client", "realm": "acme", "client_id": "job"}
W1: Final = {"job": "authtally-worker", "instance": "w1"}
A1: Final = {"job": "authtally-api", "instance": "a1"}
PARTITION: Final = {"topic": "t", "partition": "0"}
DEAD: Final = 'authtally_dead_letters_total{topic="t",reason="not_json"}'
UNEXPECTED: Final = 'authtally_dead_letters_total{topic="t",reason="unexpected"}'
UNTIMED: Final = 'authtally_untimed_records_total{topic="t"}'
LOST: Final = 'authtally_lost_offsets_total{topic="t"}'
BEHIND: Final = 'authtally_refused_scripts_total{topic="t",reason="behind"}'
AHEAD: Final = 'authtally_refused_scripts_total{topic="t",reason="ahead"}'
COUNTED: Final = 'authtally_events_total{topic="t",result="counted"}'
SPOILT: Final = 'authtally_events_total{topic="t",result="dead"}'
OTHER: Final = 'authtally_events_total{topic="u",result="counted"}'
OVERFLOW: Final = 'authtally_overflowed_events_total{dimension="client"}'
GOOD: Final = 'authtally_api_requests_total{dialect="own",status="2xx"}'
FAILED: Final = 'authtally_api_requests_total{dialect="own",status="5xx"}'
UNDELIVERED: Final = 'authtally_ingest_undelivered_records_total{error="_MSG_TIMED_OUT"}'
LEDGER_ERRORS: Final = f'authtally_api_redis_errors_total{{{API},store="ledger"}}'
SLOW: Final = 'authtally_api_request_seconds_bucket{route="/v1/logins",status="2xx",le="%s"}'

CASES: Final = [
    Case("AuthtallyNoWorker", "no target at all", {}, "5m", [{}]),
    Case("AuthtallyNoWorker", "the only one is down", {f"up{{{WORKER}}}": "0x9"}, "5m", [{}]),
    Case("AuthtallyNoWorker", "one of two is up", UP | {'up{job="authtally-worker",instance="w2"}': "0x9"}, "5m", []),
    Case("AuthtallyWorkerDown", "for five minutes", {f"up{{{WORKER}}}": "1x2 0x9"}, "9m", [W1]),
    Case("AuthtallyWorkerDown", "a restart", {f"up{{{WORKER}}}": "1x2 0x3 1x9"}, "9m", []),
    Case(
        "AuthtallyWorkerTroubled",
        "Kafka is gone",
        {'authtally_unready{instance="w1",component="kafka"}': "1x9"},
        "6m",
        [{"instance": "w1", "component": "kafka"}],
    ),
    Case("AuthtallyWorkerTroubled", "a rebalance", {'authtally_unready{component="group"}': "1x2 0x9"}, "6m", []),
    Case(
        "AuthtallyLedgerUnreachable",
        "for a worker",
        {f'authtally_unready{{{WORKER},component="redis"}}': "1x9"},
        "3m",
        [W1],
    ),
    Case("AuthtallyLedgerUnreachable", "for the api", {LEDGER_ERRORS: "0x2 0+5x9"}, "8m", [A1]),
    Case("AuthtallyLedgerUnreachable", "one lost answer", {LEDGER_ERRORS: "0x2 1x9"}, "8m", []),
    Case(
        "AuthtallyClocksDisagree",
        "an hour apart",
        {'authtally_unready{instance="w1",component="clock"}': "1x9"},
        "3m",
        [{"instance": "w1"}],
    ),
    Case(
        "AuthtallyClocksDisagree",
        "set right",
        {'authtally_unready{instance="w1",component="clock"}': "1x1 0x9"},
        "5m",
        [],
    ),
    Case("AuthtallyClocksDisagree", "another trouble", {'authtally_unready{component="kafka"}': "1x9"}, "5m", []),
    Case("AuthtallyLagHigh", "an hour", {f"authtally_lag_seconds{{{SHARD}}}": "3600x9"}, "6m", [PARTITION]),
    Case("AuthtallyLagHigh", "at rest", {f"authtally_lag_seconds{{{SHARD}}}": "0x9"}, "6m", []),
    Case("AuthtallyLagHigh", "a burst", {f"authtally_lag_seconds{{{SHARD}}}": "400x2 0x9"}, "6m", []),
    Case(
        "AuthtallyLagGrowing",
        "and already long",
        {f"authtally_stable_lag_events{{{SHARD}}}": "0+2000x60"},
        "45m",
        [{"topic": "t"}],
    ),
    Case("AuthtallyLagGrowing", "shrinking", {f"authtally_stable_lag_events{{{SHARD}}}": "900000-2000x60"}, "45m", []),
    Case("AuthtallyLagGrowing", "still short", {f"authtally_stable_lag_events{{{SHARD}}}": "0+20x60"}, "45m", []),
    Case("AuthtallyPartitionStopped", "stopped", {f"authtally_partition_stopped{{{SHARD}}}": "1x9"}, "3m", [PARTITION]),
    Case("AuthtallyPartitionStopped", "not stopped", {f"authtally_partition_stopped{{{SHARD}}}": "0x9"}, "3m", []),
    Case("AuthtallyOffsetsLost", "while it runs", {LOST: "0x20 70x20"}, "22m", [{"topic": "t"}]),
    Case("AuthtallyOffsetsLost", "before it was first scraped", {LOST: "_x20 70x20"}, "22m", [{"topic": "t"}]),
    Case("AuthtallyOffsetsLost", "long ago", {LOST: "70x60"}, "50m", []),
    Case("AuthtallyOffsetsLost", "a worker starts", {LOST: "_x20 0x20"}, "22m", []),
    Case("AuthtallyLedgerRolledBack", "once", {BEHIND: "0x20 1x20"}, "22m", [{"topic": "t", "reason": "behind"}]),
    Case("AuthtallyLedgerRolledBack", "a rebalance", {AHEAD: "0x20 1x20"}, "22m", []),
    Case("AuthtallyScriptsRefused", "again and again", {AHEAD: "0+5x60"}, "40m", [{"topic": "t"}]),
    Case("AuthtallyScriptsRefused", "a rebalance", {AHEAD: "0x20 3x40"}, "30m", []),
    Case("AuthtallyDeadLetters", "one", {DEAD: "0x20 1x20"}, "22m", [{"topic": "t", "reason": "not_json"}]),
    Case("AuthtallyDeadLetters", "the first ever", {DEAD: "_x20 1x20"}, "22m", [{"topic": "t", "reason": "not_json"}]),
    Case("AuthtallyDeadLetters", "none", {DEAD: "0x40"}, "22m", []),
    Case("AuthtallyDeadLetters", "an hour ago", {DEAD: "0x20 1x80"}, "80m", []),
    Case("AuthtallyUnexpectedRecords", "one", {UNEXPECTED: "0x20 1x20"}, "22m", [{"topic": "t"}]),
    Case("AuthtallyUnexpectedRecords", "the first ever", {UNEXPECTED: "_x20 1x20"}, "22m", [{"topic": "t"}]),
    Case("AuthtallyUnexpectedRecords", "another reason", {DEAD: "0x20 1x20"}, "22m", []),
    Case("AuthtallyUnexpectedRecords", "an hour ago", {UNEXPECTED: "0x20 1x80"}, "80m", []),
    Case("AuthtallyUntimedRecords", "some", {UNTIMED: "0x20 9x20"}, "22m", [{"topic": "t"}]),
    Case("AuthtallyUntimedRecords", "before it was first scraped", {UNTIMED: "_x20 9x20"}, "22m", [{"topic": "t"}]),
    Case("AuthtallyUntimedRecords", "none", {UNTIMED: "0x40"}, "22m", []),
    Case("AuthtallyUntimedRecords", "an hour ago", {UNTIMED: "0x20 9x80"}, "80m", []),
    Case("AuthtallyManyDeadLetters", "a tenth", {COUNTED: "0+90x40", SPOILT: "0+10x40"}, "30m", [{"topic": "t"}]),
    Case("AuthtallyManyDeadLetters", "a hundredth", {COUNTED: "0+99x40", SPOILT: "0+1x40"}, "30m", []),
    Case("AuthtallyNoEvents", "silence", UP | {COUNTED: "0+9x20 180x60"}, "70m", [{}]),
    Case("AuthtallyNoEvents", "another topic is busy", {COUNTED: "9x80", OTHER: "0+1x80"}, "70m", []),
    Case(
        "AuthtallyClockAhead",
        "an hour",
        {
            f"authtally_last_event_timestamp_seconds{{{SHARD}}}": "1003600x9",
            f"authtally_last_record_timestamp_seconds{{{SHARD}}}": "1000000x9",
        },
        "3m",
        [{"topic": "t"}],
    ),
    Case(
        "AuthtallyClockAhead",
        "events are older than their records",
        {
            f"authtally_last_event_timestamp_seconds{{{SHARD}}}": "999990x9",
            f"authtally_last_record_timestamp_seconds{{{SHARD}}}": "1000000x9",
        },
        "3m",
        [],
    ),
    Case("AuthtallyLabelsOverflow", "a flood", {OVERFLOW: "_x9 1+50x9"}, "15m", [{"dimension": "client"}]),
    Case("AuthtallyLabelsOverflow", "none since yesterday", {OVERFLOW: "500x90"}, "80m", []),
    Case("AuthtallyNoApi", "no target at all", {}, "5m", [{}]),
    Case("AuthtallyNoApi", "one is up", UP, "5m", []),
    Case("AuthtallyApiDown", "for five minutes", {f"up{{{API}}}": "0x9"}, "6m", [A1]),
    Case("AuthtallyApiDown", "up", UP, "6m", []),
    Case("AuthtallyApiErrors", "a tenth", {GOOD: "0+90x20", FAILED: "0+10x20"}, "15m", [{"dialect": "own"}]),
    Case("AuthtallyApiErrors", "a hundredth", {GOOD: "0+99x20", FAILED: "0+1x20"}, "15m", []),
    Case("AuthtallyApiErrors", "no requests", {GOOD: "7x20", FAILED: "7x20"}, "15m", []),
    Case(
        "AuthtallyApiSlow",
        "two seconds",
        {SLOW % "1": "0x40", SLOW % "2": "0+9x40", SLOW % "+Inf": "0+9x40"},
        "30m",
        [{"route": "/v1/logins"}],
    ),
    Case("AuthtallyApiSlow", "soon", {SLOW % "1": "0+9x40", SLOW % "2": "0+9x40", SLOW % "+Inf": "0+9x40"}, "30m", []),
    Case(
        "AuthtallyStaleAnswers",
        "all the time",
        {f'authtally_api_cache_answers_total{{{API},source="stale"}}': "0+3x20"},
        "15m",
        [{"instance": "a1"}],
    ),
    Case(
        "AuthtallyStaleAnswers",
        "hits",
        {f'authtally_api_cache_answers_total{{{API},source="hit"}}': "0+3x20"},
        "15m",
        [],
    ),
    Case(
        "AuthtallyTokensUnverifiable",
        "all the time",
        {f'authtally_api_access_refusals_total{{{API},reason="unverifiable"}}': "0+3x20"},
        "15m",
        [{"instance": "a1"}],
    ),
    Case(
        "AuthtallyTokensUnverifiable",
        "bad tokens",
        {f'authtally_api_access_refusals_total{{{API},reason="refused"}}': "0+3x20"},
        "15m",
        [],
    ),
    Case("AuthtallyEventsNotTaken", "the first ever", {UNDELIVERED: "_x9 4x9"}, "12m", [{"error": "_MSG_TIMED_OUT"}]),
    Case("AuthtallyEventsNotTaken", "long ago", {UNDELIVERED: "4x30"}, "25m", []),
    Case(
        "AuthtallyStatisticsUnread",
        "the token expired",
        {'up{job="authtally-statistics",instance="a1"}': "0x20"},
        "12m",
        [{"job": "authtally-statistics", "instance": "a1"}],
    ),
    Case("AuthtallyStatisticsUnread", "read", {'up{job="authtally-statistics",instance="a1"}': "1x20"}, "12m", []),
    Case("AuthtallyFiguresOld", "four hours", {"authtally_newest_event_timestamp_seconds": "0x300"}, "240m", [{}]),
    Case("AuthtallyFiguresOld", "a minute", {"authtally_newest_event_timestamp_seconds": "0+60x300"}, "240m", []),
    Case("AuthtallyQuotaNear", "85 of 100", quota("85x9", "100x9"), "3m", [CLIENT]),
    Case("AuthtallyQuotaNear", "79 of 100", quota("79x9", "100x9"), "3m", []),
    Case("AuthtallyQuotaNear", "over is another alert", quota("101x9", "100x9"), "3m", []),
    Case("AuthtallyQuotaOver", "100 of 100", quota("100x9", "100x9"), "3m", [CLIENT]),
    Case("AuthtallyQuotaOver", "99 of 100", quota("99x9", "100x9"), "3m", []),
    # Time begins on 1 January 1970.
    Case("AuthtallyQuotaProjected", "on the sixth", quota("20x200", "100x200", "120x200"), "130h", [CLIENT], "1h"),
    Case("AuthtallyQuotaProjected", "on the second", quota("20x200", "100x200", "120x200"), "30h", [], "1h"),
    Case("AuthtallyQuotaProjected", "already over", quota("101x200", "100x200", "120x200"), "130h", [], "1h"),
]
