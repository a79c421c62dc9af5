"""An auth server's script engine as a process: stand-ins compiled beside the script, driven line by line."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tests.deploy.publishers import stand_ins
from tests.servers.java import JavaMissingError, fetched, java, run

HERE: Final = Path(__file__).parent
ROOT: Final = Path(__file__).parents[3]
POM: Final = HERE / "publishers.pom.xml"
JARS: Final = ROOT / ".publishers" / "1"
PUBLISHERS: Final = ROOT / "deploy" / "publishers"
JANSSEN: Final = PUBLISHERS / "janssen" / "AuthtallyPublisher.java"
GLUU: Final = PUBLISHERS / "gluu" / "authtally_publisher.jython"

COMPILE_TIMEOUT_S: Final = 120


def jars() -> Path:
    """Jython, and what Janssen's own class path has, by Maven. Raises JavaMissingError, ServerError."""
    return fetched(POM, JARS, lambda artifacts: artifacts)


def compiled(folder: Path) -> Path:
    """The folder of the stand-ins, the driver and Janssen's script as classes, the script's apart in `script/`."""
    for path, source in (stand_ins.sources("io.jans") | stand_ins.sources("org.gluu") | stand_ins.classes()).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(source, encoding="utf-8")
    given = [str(path) for path in (*folder.rglob("*.java"), HERE / "Auth.java")]
    _javac(folder, *given)
    (folder / "script").mkdir()
    # As the product compiles it.
    _javac(folder / "script", "-g", "-proc:none", str(JANSSEN), path=f"{folder}:")
    return folder


def _javac(to: Path, *arguments: str, path: str = "") -> None:
    javac = shutil.which("javac")
    if javac is None:
        raise JavaMissingError("no `javac` on PATH: Java 17's development kit or later is needed")
    command = (javac, "-encoding", "UTF-8", "-cp", f"{path}{jars()}/*", "-d", str(to), *arguments)
    run("the publisher could not be compiled", command, COMPILE_TIMEOUT_S)


class Answer(NamedTuple):
    answer: Any
    took_s: float


class AuthServer:
    """Runs one publisher. `do` is one call of a script by the product; `renew` makes the scripts and the log new."""

    def __init__(self, script: Path, classes: Path, log: Path) -> None:
        self._log = log
        self._logged_before = 0
        self._number = 0
        self._started: set[str] = set()
        loaded = "script.class" if script == JANSSEN else str(script)
        self._output = log.open("wb")
        self._process = subprocess.Popen(
            [
                *(java(), "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Dpython.cachedir.skip=true"),
                *("-Dorg.slf4j.simpleLogger.logFile=System.err", "-Dpython.console.encoding=UTF-8"),
                *("-cp", f"{classes}:{classes / 'script'}:{jars()}/*", "Auth", loaded),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            cwd=log.parent,
            text=True,
            encoding="utf-8",
        )

    def do(self, what: str, script: str, **arguments: Any) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._started.add(script)
        call = {"do": what, "script": script, "number": self._number} | arguments
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the auth server ended:\n{self.logged()}"
        return Answer(**json.loads(line))

    def logged(self) -> str:
        return self._log.read_bytes()[self._logged_before :].decode()

    def renew(self) -> None:
        for script in self._started.copy():
            self.do("destroy", script)
        self._started.clear()
        self._number += 1
        self._logged_before = self._log.stat().st_size

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(30)
        self._output.close()


class Request(NamedTuple):
    path: str
    headers: Mapping[str, str]
    events: list[dict[str, Any]]


class Ingest:
    """Takes POST /v1/events, remembers each, and answers the next of `statuses`, or 202 when there is none."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.statuses: list[int] = []
        self.rejected: list[dict[str, Any]] = []
        ingest = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                ingest.requests.append(Request(self.path, dict(self.headers), json.loads(body)))
                status = ingest.statuses.pop(0) if ingest.statuses else 202
                result = json.dumps({"accepted": 1, "ignored": 0, "rejected": ingest.rejected}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(result)))
                self.end_headers()
                self.wfile.write(result)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/events"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for request in self.requests for event in request.events]
