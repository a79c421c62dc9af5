"""Every answer says by what it differs, and gives no versions away."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from tests.api.conftest import Answer, Api, Serve
from tests.api.sources import by_file, listed

SCOPES: Final = ["jans_stat", "read:stats", "stats:read", "reporting", "metrics:read"]
PRIVATE: Final = (
    "/jans-auth/restv1/internal/stat?month=202611",
    "/oxauth/restv1/internal/stat?month=202611",
    "/api/v2/stats/active-users",
    "/api/v2/stats/daily",
    "/v1/overview",
    "/v1/active-users?month=2026-11",
    "/v1/pipeline",
    "/v1/metrics",
    "/v1/nope",
    "/nope",
    "/reporting/maximum",
    "/reporting/show",
    "/admin/getsession",
    "/health/ready",
    "/openapi.json",
)
PUBLIC: Final = ("/", "/dashboard/config.json", "/dashboard/0123456789abcdef/app.js")


@pytest.fixture
async def api(serve: Serve, redis_url: str, tmp_path: Path) -> Api:
    bearers: dict[str, Any] = by_file(tmp_path, listed("good", scopes=SCOPES))
    return await serve(redis_url=redis_url, gluu_interval_s=0, **bearers)


def varies(answer: Answer) -> set[str]:
    names = [name.strip().lower() for value in answer.headers.getall("Vary", ()) for name in value.split(",")]
    assert len(names) == len(set(names)), "each name once"
    return set(names)


@pytest.mark.parametrize("path", PRIVATE)
async def test_private_answers_vary_with_the_token(api: Api, path: str) -> None:
    answers = [await api.get(path, token) for token in ("good", "good", "bad", None)]
    if etag := answers[1].headers.get("ETag"):
        answers.append(await api.get(path, "good", {"If-None-Match": etag}))
        assert answers[-1].status == 304
    for answer in answers:
        assert "authorization" in varies(answer), (path, answer.status)
        assert not path.startswith(("/reporting", "/admin")) or "cookie" in varies(answer)


@pytest.mark.parametrize("path", [*PRIVATE, *PUBLIC])
async def test_no_answer_is_sniffed_or_names_versions(api: Api, path: str) -> None:
    for token in ("good", None):
        answer = await api.get(path, token)
        assert answer.headers.getall("X-Content-Type-Options") == ["nosniff"]
        assert answer.headers.getall("Server") == ["authtally"]


@pytest.mark.parametrize("path", PUBLIC)
async def test_public_files_are_shared_by_all(api: Api, path: str) -> None:
    assert "authorization" not in varies(await api.get(path))
