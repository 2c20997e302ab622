"""Puts the planner's base model into the wheel, so that an installed HistoPilot works offline.

While a wheel is built the pinned file is downloaded as `histopilot models pull` would do it. An
editable install gets it in the user's cache instead, where later builds find it too. Where the
package index can't be reached, the build goes on without it and says so.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BaseModelHook(BuildHookInterface[Any]):
    """Adds `models/weights/<GGUF>` to wheels."""

    PLUGIN_NAME = "custom"
    _scratch: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the file. `version` is `standard`, or `editable` for a development install."""
        fetch = _fetch_module(Path(self.root))
        cached = fetch.cache_dir() / fetch.GGUF_NAME
        if not (cached.is_file() and fetch.file_sha256(cached) == fetch.GGUF_SHA256):
            try:
                cached = fetch.download(self._target(version, cached))
            except (fetch.BaseModelMissing, OSError) as error:
                self.app.display_warning(
                    f"Built without the local planner's base model: {error}. "
                    f"Run `histopilot models pull` after the install."
                )
                return
        if version != "editable":
            build_data["force_include"][str(cached)] = f"models/weights/{fetch.GGUF_NAME}"

    def _target(self, version: str, cached: Path) -> Path:
        if version == "editable":
            return cached
        self._scratch = tempfile.TemporaryDirectory(prefix="histopilot-build-")
        return Path(self._scratch.name) / cached.name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was downloaded for this wheel."""
        if self._scratch is not None:
            self._scratch.cleanup()


def _fetch_module(root: Path) -> Any:
    """`models/planner/fetch.py` by its path: our packages can't be imported while being built."""
    spec = importlib.util.spec_from_file_location("fetch", root / "models" / "planner" / "fetch.py")
    if spec is None or spec.loader is None:
        raise ImportError("models/planner/fetch.py is missing from the source tree")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
