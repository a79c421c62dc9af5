"""`authtally import-stat` while a worker counts: the check for counted events is part of the write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.cli import import_stat
from schemas.ledger.keys import imported
from tests.deploy.conftest import PREFIX, Deployment, login

PAST = "month,active_users,logins\n2026-05,6,\n2026-06,5,70\n"


@pytest.mark.parametrize("known", [True, False], ids=["a known shard", "a shard that is new"])
def test_a_month_that_a_worker_counts_between_check_and_write_is_not_imported(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    (tmp_path / "past.csv").write_text(PAST)
    if known:
        deployment.produce(login("ada", time="2026-07-01T12:00:00Z"))
        deployment.count_up_to(1)
    read = import_stat._held

    def counted_after_the_read(*given: Any) -> Any:
        held = read(*given)
        deployment.produce(login("bob"))
        deployment.count_up_to(2 if known else 1)
        return held

    monkeypatch.setattr(import_stat, "_held", counted_after_the_read)
    refused = deployment.run("import-stat", str(tmp_path / "past.csv"))
    assert refused.exit_code == 1
    assert "2026-06: a worker counted events of it meanwhile; nothing was changed" in refused.output
    assert deployment.redis.hgetall(imported(PREFIX)) == {}

    monkeypatch.undo()
    refused = deployment.run("import-stat", str(tmp_path / "past.csv"))
    assert "2026-06: the ledger has counted events of it; use --instead" in refused.output
    assert deployment.run("import-stat", "--instead", str(tmp_path / "past.csv")).exit_code == 0
    assert deployment.redis.hget(imported(PREFIX), "2026-06/active") == "5"
