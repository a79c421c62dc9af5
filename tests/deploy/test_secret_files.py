"""Secrets may lie in files, as container engines mount them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli.main import main

KEY = "a key of more than sixteen characters"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "secrets"
    made.mkdir()
    (made / "authtally_user_hash_key").write_text(f"{KEY}\n")
    (made / "authtally_redis_url").write_text("redis://worker:of-a-file@store:6379/0\n")
    return made


def check(**settings: str) -> Result:
    return CliRunner().invoke(main, ["worker", "--check"], env=settings)


def test_a_file_sets_what_the_environment_does_not(folder: Path) -> None:
    shown = check(AUTHTALLY_SECRETS_DIR=str(folder)).stdout.splitlines()
    assert "AUTHTALLY_USER_HASH_KEY=********" in shown
    assert "AUTHTALLY_REDIS_URL=redis://worker:********@store:6379/0" in shown


def test_the_environment_wins_over_a_file(folder: Path) -> None:
    shown = check(AUTHTALLY_SECRETS_DIR=str(folder), AUTHTALLY_REDIS_URL="redis://elsewhere/1").stdout.splitlines()
    assert "AUTHTALLY_REDIS_URL=redis://elsewhere/1" in shown


def test_files_of_others_are_left_alone(folder: Path) -> None:
    (folder / "tls.key").write_text("not ours")
    (folder / "kubernetes.io").mkdir()
    assert check(AUTHTALLY_SECRETS_DIR=str(folder)).exit_code == 0


def test_a_misspelt_file_is_named(folder: Path) -> None:
    (folder / "authtally_redis_ulr").write_text("redis://store/0")
    refused = check(AUTHTALLY_SECRETS_DIR=str(folder))
    assert refused.exit_code == 2
    assert "AUTHTALLY_REDIS_ULR: no such setting; did you mean AUTHTALLY_REDIS_URL?" in refused.stderr


def test_a_folder_that_is_not_there_is_named() -> None:
    refused = check(AUTHTALLY_SECRETS_DIR="/nowhere", AUTHTALLY_USER_HASH_KEY=KEY)
    assert refused.exit_code == 2
    assert refused.stderr == "AUTHTALLY_SECRETS_DIR: '/nowhere' is not a folder\n"
