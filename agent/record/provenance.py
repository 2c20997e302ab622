"""Where a run ran and with what: the parts of the header that no graph state knows."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agent.record.privacy import secret_name, setting
from models.planner.fetch import file_sha256
from tools.place import device, threads

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("agent", "tools", "models")
_PACKAGES = (
    *("histopilot", "cellpose", "langgraph", "llguidance", "numpy", "openai", "pillow"),
    *("pydantic", "ray", "scikit-image", "scipy", "timm", "torch", "transformers"),
)


def environment(runtime: str) -> dict[str, Any]:
    """The header's `environment`: code, packages, machine, device, threads and settings.

    `device` and `threads` are of this process; each call tells those that it ran with.
    """
    return {
        **_fixed(),
        "runtime": runtime,
        "device": device(),
        "threads": threads(),
        "settings": {
            name: setting(value)
            for name, value in sorted(os.environ.items())
            if name.startswith(("HISTOPILOT_", "OMP_")) and not secret_name(name)
        },
    }


@lru_cache(maxsize=1)
def shipped_weights() -> dict[str, str]:
    """SHA-256 of every weights file that comes with the package, by its path in it.

    Weights from elsewhere are named by the backend that used them, in each call.
    """
    return {
        file.relative_to(ROOT).as_posix(): file_sha256(file)
        for file in sorted((ROOT / "models").rglob("*.safetensors"))
    }


@lru_cache(maxsize=1)
def _fixed() -> dict[str, Any]:
    return {
        "code": {"revision": _revision(), "sources": _sources()},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": dict(_versions(_PACKAGES)),
    }


def _revision() -> str | None:
    """The commit of a checkout, with `-dirty` where files differ from it; None once installed."""
    if not (ROOT / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(ROOT),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _sources() -> str:
    """SHA-256 over our own source files: the revision of an installed package too."""
    digest = hashlib.sha256()
    for folder in _FOLDERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".toml"):
                digest.update(f"{file.relative_to(ROOT).as_posix()}\n".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"
