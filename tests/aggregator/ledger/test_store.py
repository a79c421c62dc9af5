"""The connection to a store that speaks TLS: by its files, and each fault by the setting to blame."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aggregator.ledger.ledger import Applied, Ledger
from aggregator.ledger.store import connect, diagnose_unreachable, preflight_error
from api.ledger.client import AUTH_ERRORS, Client, open_ledger, open_shared
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.ledger.keys import Shard
from tests.aggregator import ledgers
from tests.certificates import Authority
from tests.conftest import wait_until_async
from tests.stores import USERS, Store


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def store(redis_7_binary: Path, authority: Authority) -> Iterator[Store]:
    """It asks its clients for certificates."""
    with Store(("--tls-auth-clients", "yes"), redis_7_binary, authority) as store:
        yield store


class Configured(Store):
    """A store by the shipped files alone."""

    def __init__(self, files: tuple[str, ...], **given: Any) -> None:
        super().__init__(**given)
        self._files = files

    def command(self) -> list[str | Path]:
        text = "\n".join((USERS.parent / name).read_text() for name in self._files)
        port = "tls-port" if self.authority else "port"
        for name, value in {"/etc/authtally": str(self.folder), "tls-port 6379": f"tls-port {self.port}"}.items():
            text = text.replace(name, value)
        if self.authority is not None:
            shown = self.authority.sign(f"configured-{self.port}")
            for name, file in (("ca.pem", self.authority.file), ("store.crt", shown[0]), ("store.key", shown[1])):
                (self.folder / name).write_bytes(Path(file).read_bytes())
        # In their order: the last word is the files'.
        (self.folder / "redis.conf").write_text(f"bind 127.0.0.1\n{port} {self.port}\ndir {self.folder}\n{text}")
        return [self.binary or "", self.folder / "redis.conf"]


async def trouble(url: str, **given: Any) -> str | None:
    settings = ledgers.settings(url, **given)
    client: Any = connect(settings)
    try:
        await client.info()
    except (RedisError, OSError) as error:
        return await diagnose_unreachable(settings, error)
    else:
        return None
    finally:
        await client.aclose()


async def asked(client: Client, key: str) -> list[Any]:
    """Again while a handshake takes longer than the api waits for anything."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(RedisTimeoutError):
                return await client.run([("GET", key)])


def shown(authority: Authority, name: str, **more: Any) -> dict[str, str]:
    certificate = authority.sign(name, **more)
    return {"redis_cert_file": str(certificate.certificate), "redis_key_file": str(certificate.key)}


async def test_both_services_show_their_certificate(store: Store, authority: Authority) -> None:
    ours = shown(authority, "client", password="of the key") | {"redis_key_password": "of the key"}
    given: Any = store.settings | ours
    assert await trouble(store.url_of("worker"), **given) is None
    urls: Any = {"redis_url": store.url_of("api"), "cache_redis_url": store.url_of("cache")}
    settings = ApiSettings(auth=("none",), **urls, **given)
    ledger, shared = open_ledger(settings), open_shared(settings, settings.cache_redis_url)
    assert shared is not None
    assert await asked(ledger, "authtally:{x-0}:position") == [None]
    assert await asked(shared, "authtally:answer:1") == [None]
    with pytest.raises(AUTH_ERRORS):
        await asked(shared, "authtally:{x-0}:position")
    for client in (ledger, shared):
        await client.close()


async def test_each_tls_error_names_its_setting(
    store: Store, redis_7_binary: Path, authority: Authority, tmp_path: Path, redis_url: str
) -> None:
    stranger = Authority(tmp_path, "stranger")
    url, ca = store.url_of("worker"), {"redis_ca_file": str(authority.file)}
    old, clear = shown(authority, "old", days=-1), redis_url.replace("redis:", "rediss:")
    cases: tuple[tuple[str, str, dict[str, str], str], ...] = (
        ("no certificate", url, ca, "REDIS_CERT_FILE"),
        ("a stranger's", url, ca | shown(stranger, "client"), "REDIS_CERT_FILE"),
        ("one that is over", url, ca | old, "REDIS_CERT_FILE"),
        ("another authority", url, {"redis_ca_file": str(stranger.file)}, "REDIS_CA_FILE: does not verify"),
        ("the system's", url, {}, "REDIS_CA_FILE: does not verify"),
        ("TLS in the clear", clear, ca, "REDIS_URL: no connection"),
        ("in the clear to TLS", url.replace("rediss:", "redis:"), {}, "REDIS_URL: no connection"),
    )
    for error, where, files, named in cases:
        found = await trouble(where, **files)
        assert f"AUTHTALLY_{named}" in (found or ""), (error, found)
    with Store(binary=redis_7_binary, authority=authority, certified="localhost") as elsewhere:
        assert await trouble(elsewhere.url_of("worker"), **ca) is None
        found = await trouble(elsewhere.url_of("worker").replace("localhost", "127.0.0.1"), **ca)
    assert found is not None
    assert "AUTHTALLY_REDIS_URL: the server's certificate is for other host names" in found


async def test_a_missing_right_is_named(store: Store, authority: Authority) -> None:
    ours: Any = store.settings | shown(authority, "another")
    found = await trouble(store.url_of("cache"), **ours)
    assert found is not None
    assert "AUTHTALLY_REDIS_URL: its user lacks a permission" in found
    assert "info" in found


@pytest.mark.parametrize("files", [("ledger.conf",), ("ledger.conf", "tls.conf"), ("ledger.conf", "replica.conf")])
async def test_the_shipped_configuration_makes_a_store_that_fits(
    redis_7_binary: Path, authority: Authority, tmp_path: Path, files: tuple[str, ...]
) -> None:
    secured = authority if "tls.conf" in files else None
    with Configured(files, binary=redis_7_binary, authority=secured) as store:
        settings = ledgers.settings(store.url_of("worker"), **store.settings)
        client: Any = connect(settings)
        try:
            assert await preflight_error(client) is None
        finally:
            await client.aclose()
        with store.watcher() as watcher:
            assert watcher.config_get("appendonly") == {"appendonly": "yes"}


async def test_a_full_store_is_waited_for() -> None:
    errors: list[str] = []
    with Valkey() as store:
        settings = ledgers.settings(store.url)
        opened: Any = connect(settings)
        ledger = Ledger(opened, settings, on_error=lambda error: errors.append(error or ""))
        try:
            await opened.config_set("maxmemory", "1")
            opening = asyncio.create_task(ledger.initialize(Shard("auth.logins", 0), 0, "id"))
            await wait_until_async(lambda: any("this Redis is full" in error for error in errors) or opening.done())
            assert not opening.done()
            await opened.config_set("maxmemory", "0")
            assert isinstance(await opening, Applied)
            assert errors[-1] == ""
        finally:
            await opened.aclose()
