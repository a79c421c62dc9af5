"""A Dockerfile as its steps, and its build stage as a script: what of an image needs no container engine."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    instruction: str
    text: str

    @property
    def words(self) -> list[str]:
        """The exec form's words, or those of a shell."""
        return list(json.loads(self.text)) if self.text.startswith("[") else shlex.split(self.text)


def stages(dockerfile: Path) -> list[list[Step]]:
    """Steps by stage; what stands before the first FROM is left out."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found: list[list[Step]] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, text = line.strip().partition(" ")
        if instruction == "FROM":
            found.append([])
        if instruction and found:
            found[-1].append(Step(instruction, text.strip()))
    return found


def variables(stage: list[Step]) -> dict[str, str]:
    """What ENV sets."""
    pairs = (word.partition("=") for step in stage if step.instruction == "ENV" for word in step.words)
    return {name: value for name, _, value in pairs}


class Build:
    """Runs a stage's steps with `/` standing for a folder. Only what our Dockerfile uses; anything else raises."""

    def __init__(self, context: Path, root: Path) -> None:
        self.context, self.root = context, root
        # What the base image has in its PATH.
        tools = root / "usr/local/bin"
        tools.mkdir(parents=True)
        base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        (tools / "python").symlink_to(base)
        pip = tools / "pip"
        pip.write_text(f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n')
        pip.chmod(0o755)
        self.environment = {"PATH": f"{tools}:{os.defpath}", "HOME": os.environ.get("HOME", str(root))}
        self.folder = root

    def run(self, stage: list[Step], unset: tuple[str, ...] = ()) -> None:
        for step in stage:
            match step.instruction:
                case "FROM" | "ARG":
                    pass
                case "ENV":
                    self.environment |= {k: v for k, v in variables([step]).items() if k not in unset}
                case "WORKDIR":
                    self.folder = self.inside(step.text)
                    self.folder.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(*step.words)
                case "RUN":
                    self.shell(step.text)
                case other:
                    raise ValueError(f"{other}: a step that is not run here")

    def inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def shell(self, text: str) -> None:
        """As /bin/sh in the image; the image's absolute paths are in our folder."""
        line = text.replace("/opt/", f"{self.root}/opt/")
        done = subprocess.run(
            ("sh", "-ec", line), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"

    def _copy(self, *words: str) -> None:
        *sources, target = words
        for source in sources:
            where = self.folder / target
            if target.endswith("/"):
                where = where / Path(source).name
            if (self.context / source).is_dir():
                shutil.copytree(self.context / source, where, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(self.context / source, where)


def contents(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Every file's size and time of change: two that are equal say that nothing was written between them."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }
