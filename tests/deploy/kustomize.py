"""What Kustomize makes of our folders, as far as they use it: tests need the result where no `kubectl` is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

Resource = dict[str, Any]

KEYS: Final = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""By what entries of a list are the same when a patch is merged; other lists are replaced."""
KNOWN: Final = {
    *("apiVersion", "kind", "labels", "namespace", "resources", "configMapGenerator", "images", "patches"),
}
CLUSTER_WIDE: Final = {"Namespace"}


def build(folder: Path) -> list[Resource]:
    """The resources of a kustomization. Names of generated ConfigMaps carry no digest here. Unknown fields raise."""
    given = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := set(given) - KNOWN:
        raise ValueError(f"{folder}: {unknown} is not done here")
    found: list[Resource] = []
    for name in given.get("resources", ()):
        path = folder / name
        found += build(path) if path.is_dir() else _read(path)
    for generated in given.get("configMapGenerator", ()):
        _generate(found, generated)
    for patch in given.get("patches", ()):
        (changes,) = _read(folder / patch["path"])
        (target,) = [each for each in found if _identity(each) == _identity(changes)]
        _merge(target, changes)
    for resource in found:
        for labels in given.get("labels", ()):
            resource["metadata"].setdefault("labels", {}).update(labels["pairs"])
        if "namespace" in given and resource["kind"] not in CLUSTER_WIDE:
            resource["metadata"]["namespace"] = given["namespace"]
        for image in given.get("images", ()):
            for container in containers(resource):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return found


def _read(path: Path) -> list[Resource]:
    # An anchor and its aliases are one object: copied, or a change of one would be a change of all.
    return [json.loads(json.dumps(each)) for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def _identity(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def _generate(found: list[Resource], generated: Resource) -> None:
    data = dict(each.split("=", 1) for each in generated["literals"])
    if generated.get("behavior") == "merge":
        (there,) = [each for each in found if _identity(each) == ("ConfigMap", generated["name"])]
        there["data"] |= data
    else:
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generated["name"]}, "data": data})


def _merge(target: Resource, changes: Resource) -> None:
    for name, value in changes.items():
        key = KEYS.get(name)
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        elif key and isinstance(target.get(name), list):
            for entry in value:
                there = [each for each in target[name] if each[key] == entry[key]]
                if there:
                    _merge(there[0], entry)
                else:
                    target[name].append(entry)
        else:
            target[name] = value


def pod(resource: Resource) -> Resource | None:
    """The pod template of a resource that has one."""
    spec = resource.get("spec", {})
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"]["spec"]
    found: Resource | None = spec.get("template")
    return found


def containers(resource: Resource) -> list[Resource]:
    template = pod(resource)
    return template["spec"]["containers"] if template else []


def by_kubectl(folder: Path, home: Path) -> list[Resource] | None:
    """The same by the real one, digests taken off; None where there is none."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": os.devnull}
    done = subprocess.run(
        (kubectl, "kustomize", folder), env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    made: list[Resource] = list(yaml.safe_load_all(done.stdout))
    text = json.dumps(made)
    for each in made:
        if each["kind"] == "ConfigMap":
            name = each["metadata"]["name"]
            text = text.replace(f'"{name}"', f'"{name.rpartition("-")[0]}"')
    plain: list[Resource] = json.loads(text)
    return plain
