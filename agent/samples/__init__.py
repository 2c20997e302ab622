"""The sample image that comes with the package: H&E skin, CC0 1.0 (see README.md beside this)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SAMPLE_NAME = "cmu1-skin.tif"


def sample_path() -> Path:
    """Where the sample lies: a TIFF of 1200 x 1200 px at 0.499 µm/px, the pixel size inside."""
    return Path(str(files(__name__) / SAMPLE_NAME))
