"""The rendered pod templates, translated into what `podman kube play` of Podman 4.3 accepts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.kustomize import pod, rendered
from tests.qualification.container.engine import Engine
from tests.qualification.container.images import AUTHTALLY, ROOT

BASE: Final = ROOT / "deploy/kubernetes/base"
SECRET: Final = "authtally"

Resource = dict[str, Any]


class Pods:
    """Pods of the base with a suffix in their names, in a network that knows `kafka` and the Redis of `secrets`."""

    def __init__(self, engine: Engine, network: str, secrets: Mapping[str, str], suffix: str, folder: Path) -> None:
        self.engine, self.network, self.suffix, self.folder = engine, network, suffix, folder
        self.resources = rendered(BASE)
        self.names: list[str] = []
        # Podman 4.3 reads a variable's secret as a map of Base64 values, and a mounted one as plain text under `data`.
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in secrets.items()}
        self._create(f"{SECRET}-{suffix}", encoded)
        self._create(f"{SECRET}-files-{suffix}", {"data": dict(secrets)})

    def _create(self, name: str, content: Mapping[str, Any]) -> None:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        self.engine.podman("secret", "create", name, path)
        path.unlink()

    def close(self) -> None:
        for name in self.names:
            self.engine.attempt(("podman", "pod", "rm", "--force", "--time", "5", name))
        self.engine.attempt(
            ("podman", "secret", "rm", f"{SECRET}-{self.suffix}", f"{SECRET}-files-{self.suffix}"),
        )

    def play(self, kind: str, name: str) -> str:
        """Start the pod of a workload. Returns the name of its container."""
        (workload,) = (each for each in self.resources if (each["kind"], each["metadata"]["name"]) == (kind, name))
        template = pod(workload)
        assert template is not None
        unique = f"{name}-{self.suffix}"
        made = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": unique, "labels": template["metadata"]["labels"]},
            "spec": self._translated(template["spec"]),
        }
        settings = [each for each in self.resources if each["kind"] == "ConfigMap"]
        file = self.folder / f"{unique}.yaml"
        file.write_text(yaml.safe_dump_all([*settings, made]), encoding="utf-8")
        self.names.append(unique)
        self.engine.podman("kube", "play", "--network", self.network, file)
        (container,) = template["spec"]["containers"]
        return f"{unique}-{container['name']}"

    def _translated(self, spec: Resource) -> Resource:
        """The pod's specification with the local image, these secrets, and `optional`, without which Podman panics."""
        made: Resource = json.loads(json.dumps(spec))
        for container in made["containers"]:
            container["image"] = AUTHTALLY
            # Podman would publish the ports on all addresses of this machine.
            del container["ports"]
            ports = {each["name"]: each["containerPort"] for each in spec["containers"][0]["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                container[probe]["httpGet"]["port"] = ports[container[probe]["httpGet"]["port"]]
            for variable in container["env"]:
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    reference["name"] = f"{SECRET}-{self.suffix}"
        for volume in made["volumes"]:
            if "secret" in volume:
                volume["secret"].update(secretName=f"{SECRET}-files-{self.suffix}", optional=False)
            volume["name"] = f"{volume['name']}-{self.suffix}"
        for mount in (mount for container in made["containers"] for mount in container["volumeMounts"]):
            mount["name"] = f"{mount['name']}-{self.suffix}"
        return made
