"""Prometheus, from the system's package, as a child process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from deploy.demo.servers.process import ServerError, ServerProcess

ANSWER_TIMEOUT_S: Final = 10

ACCEPTS: Final = {
    2: "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    3: "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
}
"""What a scrape of each major version sends as Accept: 2.42 and 3.5."""


class PrometheusMissingError(ServerError):
    """Prometheus is not on this machine."""


def binary() -> str:
    """The path of `prometheus`. Raises PrometheusMissingError."""
    return _on_path("prometheus")


def promtool() -> str:
    """The path of Prometheus' tool that checks rules and configurations. Raises PrometheusMissingError."""
    return _on_path("promtool")


def _on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise PrometheusMissingError(f"no `{name}` on PATH")
    return found


def major_version() -> int:
    """Raises PrometheusMissingError, ServerError."""
    done = subprocess.run([binary(), "--version"], capture_output=True, text=True, timeout=30, check=False)
    # It has been said on either stream.
    found = re.search(r"version (\d+)\.", done.stdout + done.stderr)
    if found is None:
        raise ServerError(f"prometheus --version said: {done.stdout}{done.stderr}")
    return int(found[1])


class Prometheus(ServerProcess):
    """One server that scrapes what `scrape_configs` (as in its configuration file) says, every `interval`."""

    name = "prometheus"
    start_timeout_s = 60

    def __init__(
        self,
        scrape_configs: Sequence[Mapping[str, Any]],
        interval: str = "500ms",
        folder: Path | None = None,
        port: int | None = None,
        rule_files: Sequence[Path] = (),
    ) -> None:
        self._binary = binary()
        super().__init__(folder, port)
        self.scrape_configs = scrape_configs
        self.interval = interval
        self.rule_files = rule_files

    def prepare(self) -> None:
        # JSON is YAML.
        configuration = {
            "global": {
                "scrape_interval": self.interval,
                "scrape_timeout": self.interval,
                "evaluation_interval": self.interval,
            },
            "rule_files": [str(path) for path in self.rule_files],
            "scrape_configs": self.scrape_configs,
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration, indent=2), encoding="utf-8")

    def command(self) -> Sequence[str | Path]:
        return (
            *(self._binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"),
            f"--web.listen-address={self.address}",
        )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=ANSWER_TIMEOUT_S):
                return True
        except OSError:
            return False

    def api(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its HTTP API. Raises urllib.error.HTTPError for a bad question."""
        url = f"http://{self.address}/api/v1/{path}?{urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S) as answer:
            return json.load(answer)["data"]

    def targets(self) -> dict[str, dict[str, Any]]:
        """The state of each scrape by its job, for jobs with one target."""
        return {target["labels"]["job"]: target for target in self.api("targets", state="active")["activeTargets"]}

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series now."""
        found = self.api("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]
