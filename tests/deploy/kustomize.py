"""The resources that `kubectl kustomize` renders from our folders."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.servers.kubectl import kubectl

Resource = dict[str, Any]


def rendered(folder: Path) -> list[Resource]:
    """As they are applied: names of generated ConfigMaps end in a digest."""
    with tempfile.TemporaryDirectory() as home:
        # Neither the user's cluster nor its settings.
        environment = {"PATH": os.defpath, "HOME": home, "KUBECONFIG": os.devnull}
        done = subprocess.run(
            (kubectl(), "kustomize", folder), env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def build(folder: Path) -> list[Resource]:
    """`rendered`, with ConfigMaps under the names that they have in our files."""
    made = rendered(folder)
    text = json.dumps(made)
    for each in made:
        if each["kind"] == "ConfigMap":
            name = each["metadata"]["name"]
            text = text.replace(f'"{name}"', f'"{name.rpartition("-")[0]}"')
    plain: list[Resource] = json.loads(text)
    return plain


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
