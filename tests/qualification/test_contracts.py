"""The comparison of contracts finds each kind of contract in this tree, and every kind of change between two."""

from __future__ import annotations

import pytest

from tests.qualification.contracts import ROOT, contracts_of, differences


@pytest.fixture(scope="module")
def contracts() -> dict[str, str]:
    return contracts_of(ROOT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("openapi paths /v1/logins get operationId", None),
        ("json schema login.schema.json properties user_id maxLength", "1024"),
        ("metric authtally_unready labels", '["component"]'),
        ("metric authtally_m2m_tokens labels", "\"['scope', 'realm', 'client_id']\""),
        ("metric authtally_pipeline_dead_letters labels", "\"['topic', 'partition', 'reason']\""),
        ("setting WorkerSettings exact_up_to", '"4096"'),
        ("setting WorkerSettings user_hash_key", '"required"'),
        ("command authtally recount --json", '"option, boolean; default False"'),
        ("redis key P:shards", '"present"'),
        ("redis key P:{topic-0}:users:*:*/*:*", '"present"'),
        ("redis key P:{topic-0}:otp:rows:*:*", '"present"'),
        ("redis field token/*/*", '"present"'),
        ("redis field consumed", '"present"'),
        ("dead-letter reason no_time", '"present"'),
        ("doctor check ledger.format", '"present"'),
        ("alert AuthtallyUnexpectedRecords (critical)", '"present"'),
    ],
)
def test_a_contract_of_each_kind_is_found(contracts: dict[str, str], name: str, value: str | None) -> None:
    assert name in contracts, sorted(key for key in contracts if key.split()[:2] == name.split()[:2])
    assert value in (None, contracts[name])


def test_a_change_of_each_kind_is_printed() -> None:
    assert differences({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == [
        "! b: 1 -> 2",
        "- c: 1",
        "+ d: 1",
    ]
