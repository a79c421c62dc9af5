"""Keycloak, a real OpenID provider: its distribution by Maven into the checkout's `.keycloak/`, run as a child."""

from __future__ import annotations

import os
import shutil
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.demo.servers.process import HOST, ServerProcess
from tests.servers.java import fetched, java, run

VERSION: Final = "26.7.3"
LISTENERS_VERSION: Final = "0.50"
"""Of `io.phasetwo.keycloak:keycloak-events`, the last for Java 17; built for Keycloak 26.4."""
POM: Final = Path(__file__).with_name("keycloak.pom.xml")
DISTRIBUTION: Final = Path(__file__).parents[2] / ".keycloak" / f"{VERSION}-events-{LISTENERS_VERSION}"
BUILD_TIMEOUT_S: Final = 300
ANSWER_TIMEOUT_S: Final = 10

# What Keycloak's own launcher opens to its libraries.
OPENED: Final = ("java.util", "java.util.concurrent", "java.security", "java.lang")
LAUNCHED: Final = "io.quarkus.bootstrap"


def fetch_distribution() -> Path:
    """The unpacked and built distribution, made once per checkout. Raises JavaMissingError, ServerError."""

    def make(artifacts: Path) -> Path:
        with zipfile.ZipFile(artifacts / f"keycloak-quarkus-dist-{VERSION}.zip") as archive:
            archive.extractall(artifacts)
        unpacked = artifacts / f"keycloak-{VERSION}"
        listeners = f"keycloak-events-{LISTENERS_VERSION}.jar"
        shutil.copyfile(artifacts / listeners, unpacked / "providers" / listeners)
        # Done here once, this spares every start a second one: Keycloak works its build options into its own jars.
        build = (*_jvm(unpacked, artifacts, heap_mb=512), "build", "--db=dev-mem")
        run("Keycloak could not be built", build, BUILD_TIMEOUT_S)
        return unpacked

    return fetched(POM, DISTRIBUTION, make)


def _jvm(home: Path, temporary: Path, heap_mb: int) -> Sequence[str]:
    """Keycloak's launcher without its shell, which would stand between us and the process that we end."""
    return (
        # It runs for a minute: compiling well costs it 11 s of the 29 s of CPU time that its start took.
        *(java(), f"-Xmx{heap_mb}m", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"),
        # The JVM takes the home directory from the user database, and leaves /tmp/hsperfdata_<user> behind if killed.
        *(f"-Duser.home={temporary}", f"-Djava.io.tmpdir={temporary}", "-XX:-UsePerfData"),
        *(f"-Dkc.home.dir={home}", f"-Djboss.server.config.dir={home / 'conf'}"),
        *("-Djava.util.logging.manager=org.jboss.logmanager.LogManager", "-Dpicocli.disable.closures=true"),
        f"-Djava.util.concurrent.ForkJoinPool.common.threadFactory={LAUNCHED}.forkjoin.QuarkusForkJoinWorkerThreadFactory",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
        *("-cp", str(home / "lib" / "quarkus-run.jar"), f"{LAUNCHED}.runner.QuarkusEntryPoint"),
    )


class Keycloak(ServerProcess):
    """One server that knows the realms of `realms`, files named `<realm>-realm.json`. All of it is in memory.

    Plain HTTP on loopback. Not `start-dev`, which would build anew with every start.
    """

    name = "keycloak"
    start_timeout_s = 180
    stop_timeout_s = 20

    def __init__(
        self,
        realms: Sequence[Path],
        folder: Path | None = None,
        port: int | None = None,
        heap_mb: int = 512,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`variables` are added to the environment, which the listeners read."""
        java()
        self._distribution = fetch_distribution()
        super().__init__(folder, port)
        self.realms = tuple(realms)
        self.heap_mb = heap_mb
        self._variables = dict(variables or {})

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def issuer(self, realm: str) -> str:
        """The `iss` of a realm's tokens; its endpoints are below `/protocol/openid-connect/`."""
        return f"{self.url}/realms/{realm}"

    def prepare(self) -> None:
        # A home of its own that shares the jars: imports are read from below it.
        imports = self.folder / "data" / "import"
        imports.mkdir(parents=True, exist_ok=True)
        for realm in self.realms:
            shutil.copyfile(realm, imports / realm.name)
        for name in ("lib", "providers"):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(self._distribution / name)

    def command(self) -> Sequence[str | Path]:
        return (
            *_jvm(self.folder, self.folder, self.heap_mb),
            # With any other cache it looks for a cluster, on every interface.
            *("start", "--optimized", "--import-realm", "--cache=local"),
            *("--http-enabled=true", f"--http-host={HOST}", f"--http-port={self.port}", f"--hostname={self.url}"),
        )

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ}
        return super().environment() | kept | self._variables

    def answers(self) -> bool:
        names = [realm.name.removesuffix("-realm.json") for realm in self.realms]
        return all(self._answers(f"{self.issuer(name)}/.well-known/openid-configuration") for name in names)

    def _answers(self, url: str) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S):
                return True
        except OSError:
            return False
