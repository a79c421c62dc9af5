"""The databases of LinOTP sites, from the system's packages, as child processes on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.demo.servers.process import HOST, ServerError, ServerProcess

PREPARE_TIMEOUT_S: Final = 120
SERVER_FOLDERS: Final = ("/usr/sbin", "/usr/lib/postgresql/*/bin")
"""Debian's folders of servers, which are not in every user's PATH."""


UNPRIVILEGED: Final = "nobody"
"""The account of PostgreSQL where the tests run as root."""
CREATE_DATABASE: Final = """
SELECT 'CREATE DATABASE linotp' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'linotp')\\gexec
"""


class DatabaseMissingError(ServerError):
    """The database is not on this machine."""


def binary(name: str) -> str:
    """The path of a server's program. Raises DatabaseMissingError."""
    if found := shutil.which(name):
        return found
    candidates = sorted(
        path for folder in SERVER_FOLDERS for path in Path("/").glob(f"{folder[1:]}/{name}") if path.is_file()
    )
    if not candidates:
        raise DatabaseMissingError(f"no `{name}` on this machine: tests/servers/install_test_servers.sh installs it")
    return str(candidates[-1])


class Database(ServerProcess):
    """A server with one database, `linotp`, and a superuser without a password."""

    start_timeout_s = 120
    user = "linotp"

    def client_environment(self) -> dict[str, str]:
        """The environment in which the database's own client connects without arguments."""
        raise NotImplementedError

    def client(self, database: str) -> Sequence[str]:
        """The client's command, which reads SQL from its standard input."""
        raise NotImplementedError

    def run(self, sql: str, database: str = "linotp") -> None:
        """Raises ServerError with the client's message."""
        done = subprocess.run(
            self.client(database),
            input=sql.encode(),
            env={"PATH": os.environ.get("PATH", os.defpath)} | self.client_environment(),
            capture_output=True,
            timeout=PREPARE_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"{self.name}: {(done.stdout + done.stderr).decode(errors='replace')[-2000:]}")

    def answers(self) -> bool:
        try:
            self.run("SELECT 1;\n")
        except ServerError:
            return False
        return True

    def _prepare_by(self, *command: str | Path) -> None:
        done = subprocess.run(
            command,
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            timeout=PREPARE_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"{self.name}: {(done.stdout + done.stderr).decode(errors='replace')[-2000:]}")


class MariaDb(Database):
    name = "mariadb"

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        self._server, self._install = binary("mariadbd"), binary("mariadb-install-db")
        super().__init__(folder, port)

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def prepare(self) -> None:
        if not (self.folder / "data").exists():
            self._prepare_by(
                *(self._install, "--no-defaults", f"--datadir={self.folder / 'data'}", f"--user={_account()}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            )
        (self.folder / "init.sql").write_text(
            f"CREATE DATABASE IF NOT EXISTS linotp;\n"
            f"CREATE USER IF NOT EXISTS {self.user}@localhost;\n"
            f"GRANT ALL ON *.* TO {self.user}@localhost;\n",
            encoding="utf-8",
        )
        # The client reads it from its home.
        (self.folder / ".my.cnf").write_text(f"[client]\nsocket={self.socket}\nuser={self.user}\n", encoding="utf-8")

    def command(self) -> Sequence[str | Path]:
        return (
            *(self._server, "--no-defaults", f"--datadir={self.folder / 'data'}", f"--user={_account()}"),
            *(f"--bind-address={HOST}", f"--port={self.port}", f"--socket={self.socket}"),
            *(f"--init-file={self.folder / 'init.sql'}", "--innodb-buffer-pool-size=16M", "--skip-log-bin"),
            "--innodb-flush-log-at-trx-commit=0",
        )

    def client_environment(self) -> dict[str, str]:
        return {"HOME": str(self.folder)}

    def client(self, database: str) -> Sequence[str]:
        return ("mysql", database)


class PostgreSql(Database):
    name = "postgresql"

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        self._server, self._initdb = binary("postgres"), binary("initdb")
        super().__init__(folder, port)

    def prepare(self) -> None:
        data = self.folder / "data"
        if not data.exists():
            if os.getuid() == 0:
                shutil.chown(self.folder, UNPRIVILEGED)
            self._prepare_by(
                *(*_unprivileged(), self._initdb, "--pgdata", str(data), "--username", self.user),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
            )

    def command(self) -> Sequence[str | Path]:
        return (
            *(*_unprivileged(), self._server, "-D", str(self.folder / "data"), "-p", str(self.port), "-h", HOST),
            *("-k", str(self.folder), "-c", "fsync=off", "-c", "shared_buffers=16MB"),
        )

    def answers(self) -> bool:
        try:
            self.run(CREATE_DATABASE, "postgres")
        except ServerError:
            return False
        return super().answers()

    def client_environment(self) -> dict[str, str]:
        return {"PGHOST": HOST, "PGPORT": str(self.port), "PGUSER": self.user}

    def client(self, database: str) -> Sequence[str]:
        return ("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database)


def _account() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _unprivileged() -> tuple[str, ...]:
    """A prefix that runs a command without root's rights, since PostgreSQL refuses root; none for other users.

    The change of user would clear the signal at the parent's death, so it is set again.
    """
    if os.getuid() != 0:
        return ()
    account = pwd.getpwnam(UNPRIVILEGED)
    return (
        *("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"),
        *("--pdeathsig", "KILL", "--"),
    )
