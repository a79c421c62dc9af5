"""Images without a registry: a base from Debian packages, the Dockerfile as shipped, and stand-ins for servers."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from deploy.demo.servers.valkey import bundled_binary
from tests.qualification.container.engine import Engine
from tests.servers.apache_kafka import VERSION as KAFKA_VERSION
from tests.servers.apache_kafka import fetch_jars

ROOT: Final = Path(__file__).parents[3]
CONTEXTS: Final = Path(__file__).with_name("images")
BASE: Final = "localhost/python:3.11-slim-bookworm"
AUTHTALLY: Final = "localhost/authtally:under-test"
KAFKA: Final = f"localhost/stand-in/kafka:{KAFKA_VERSION}"
VALKEY: Final = "localhost/stand-in/valkey:9.1.2"
PROMETHEUS: Final = "localhost/stand-in/prometheus:debian"

# pip needs this machine's registry settings and certificates; the image must not contain them.
MOUNTED: Final = ("/etc/pip.conf", "/etc/ssl/certs")


def build_base(engine: Engine) -> None:
    """Debian with Python, under the name that the Dockerfile's base has. An existing one is used again."""
    if engine.attempt(("podman", "image", "exists", BASE)).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "base.tar"
        engine.run(
            *("mmdebstrap", "--mode=root", "--variant=minbase"),
            "--include=python3,python3-pip,python3-venv,ca-certificates",
            '--customize-hook=ln -s python3 "$1/usr/bin/python"',
            *("bookworm", archive),
        )
        engine.podman("import", "--change", 'CMD ["python3"]', archive, BASE)


def build(engine: Engine, tag: str, file: Path, context: Path, *options: str) -> None:
    """By buildah; Docker's format keeps HEALTHCHECK."""
    how = ("--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker", "--layers")
    engine.run("buildah", "bud", *how, *options, "-f", file, "-t", tag, context)


def build_authtally(engine: Engine) -> None:
    """The unmodified Dockerfile, from this checkout."""
    mounts = [f"--volume={path}:{path}:ro" for path in MOUNTED if Path(path).exists()]
    base = ("--build-arg", f"PYTHON_IMAGE={BASE}")
    build(engine, AUTHTALLY, ROOT / "deploy/container/Dockerfile", ROOT, *base, *mounts)


def build_stand_in(engine: Engine, tag: str, name: str, files: Sequence[tuple[Path, str]] = ()) -> None:
    """`images/<name>`, with more files or folders in the build context."""
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / name
        shutil.copytree(CONTEXTS / name, context)
        for source, target in files:
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, context / target)
        build(engine, tag, context / "Containerfile", context)


def build_all(engine: Engine) -> dict[str, float]:
    """Every image. Returns the seconds that each took."""
    took: dict[str, float] = {}
    steps: dict[str, Callable[[], None]] = {
        "base": lambda: build_base(engine),
        "authtally": lambda: build_authtally(engine),
        "kafka": lambda: build_stand_in(engine, KAFKA, "kafka", [(fetch_jars(), "jars")]),
        "valkey": lambda: build_stand_in(engine, VALKEY, "valkey", [(Path(bundled_binary()), "valkey-server")]),
        "prometheus": lambda: build_stand_in(engine, PROMETHEUS, "prometheus"),
    }
    for name, step in steps.items():
        began = time.monotonic()
        step()
        took[name] = round(time.monotonic() - began, 1)
    return took
