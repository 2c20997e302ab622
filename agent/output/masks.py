"""Masks as 16-bit PNG files, written and read back exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from agent.output.layers import Layer
from tools.errors import BadInput

MAX_INSTANCES = 65_535
"""The largest number that a 16-bit PNG holds."""


def write_mask(path: Path, layer: Layer) -> None:
    """Write `layer.labels` as a 16-bit grey PNG of the image's height and width.

    0 is background; 1..n are the instances, or 1 is the region.

    Raises:
        BadInput: more instances than 16 bits can number. They are never merged or cut off: the
            caller looks at a smaller region.
        OSError: the file can't be written.
    """
    if layer.labels.size and int(layer.labels.max()) > MAX_INSTANCES:
        raise BadInput(
            f"{layer.count:,} instances of {layer.title} are more than the {MAX_INSTANCES:,} that "
            "a 16-bit mask can number: use --region for a part of the image"
        )
    PillowImage.fromarray(layer.labels.astype(np.uint16)).save(path, format="PNG")


def read_mask(path: Path) -> npt.NDArray[np.int32]:
    """Read a mask that `write_mask` wrote: int32, shape (H, W).

    Raises:
        ValueError: the file is no 16-bit grey PNG.
        OSError: the file can't be read.
    """
    with PillowImage.open(path, formats=("PNG",)) as picture:
        if picture.mode != "I;16":
            raise ValueError(f"{path.name}: a mask is a 16-bit grey PNG, not {picture.mode}")
        return np.asarray(picture).astype(np.int32)
