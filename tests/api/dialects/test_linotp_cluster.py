"""Reporting where every key has its slot: pages, maxima and deletes in a Redis Cluster."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Serve
from tests.api.otp import COUNTS, given, policy, rows, state, value, write, written


async def test_reporting_in_a_cluster(serve: Serve, cluster: str, tmp_path: Any) -> None:
    tokens = [
        state(f"2026-11-{10 + number // 100}T{number % 24:02}:00:00Z", str(number), "token_init", "acme", "globex")
        for number in range(600)
    ]
    await write(cluster, tokens, redis_cluster=True)
    counts = [given(f"2026-11-1{number}T12:00:00Z", "initech", "total", number) for number in range(9)]
    await write(cluster, counts, COUNTS, redis_cluster=True)
    path = written(tmp_path, policy("reporting", "token_total, token_status=active"))
    api = await serve(redis_url=cluster, redis_cluster=True, reporting_policy_file=path)
    everything = await rows(api)
    assert len(everything) == 600 * 2 * 2 + 9
    for page in (1, 9, 49):
        assert await rows(api, f"page={page}&pagesize=50") == everything[50 * page - 50 : 50 * page]
    found = value(await api.get("/reporting/maximum"))
    assert found == {"acme": {"total": 600}, "globex": {"total": 600}, "initech": {"total": 8}}
    assert value(await api.get("/reporting/delete_all?status=*")) == len(everything)
    assert await rows(api) == []
    assert (await api.get("/v1/otp-tokens?realm=acme&status=total")).json["items"][0]["count"] == 600
