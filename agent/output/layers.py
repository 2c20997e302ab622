"""What there is to draw and to export: masks and boxes, each with the call that made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

LayerKind = Literal["semantic", "instance"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One mask of a result.

    Attributes:
        call: the reference of the call that made it, `"$1"`.
        title: what it shows, as a person reads it (`"lymphocyte"`, `"epidermis"`).
        kind: `"semantic"`, one region, or `"instance"`, numbered objects.
        labels: int32, shape (H, W) of the image; 0 is background. Semantic: 1 is the region.
            Instance: 1..n the objects, contiguous. A view; nobody writes to it.
        kinds: instance only, the type names of the n objects, `kinds[i]` for label `i + 1`.
        confidence: instance only, float32, shape (n,), in 0..1, or None where there is none.

    Raises:
        ValueError: where the parts contradict each other.
    """

    call: str
    title: str
    kind: LayerKind
    labels: npt.NDArray[np.int32]
    kinds: tuple[str, ...] = ()
    confidence: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.labels.dtype != np.int32 or self.labels.ndim != 2:
            raise ValueError(
                f"labels are int32 (H, W), not {self.labels.dtype} {self.labels.shape}"
            )
        low, high = (int(self.labels.min()), int(self.labels.max())) if self.labels.size else (0, 0)
        if self.kind == "semantic":
            if low < 0 or high > 1 or self.kinds or self.confidence is not None:
                raise ValueError("a semantic layer is 0 and 1, without kinds or confidence")
        elif low < 0 or high != len(self.kinds):
            raise ValueError(f"{len(self.kinds)} kinds for the labels {low}..{high}")
        elif self.confidence is not None and self.confidence.shape != (high,):
            raise ValueError(f"confidence of shape {self.confidence.shape} for {high} instances")

    @property
    def count(self) -> int:
        """Number of instances; for a semantic layer 1 where it holds anything, else 0."""
        return len(self.kinds) if self.kind == "instance" else int(self.labels.any())


@dataclass(frozen=True)
class Box:
    """A bounding box.

    Attributes:
        call: the reference of the call that made it, `"$2"`.
        xyxy: x0, y0, x1, y1 in image px, origin at the top left corner, half open: the box
            takes in the columns x0..x1-1 and the rows y0..y1-1, so its width is x1 - x0.

    Raises:
        ValueError: where the box is empty or reaches left of or above the image.
    """

    call: str
    xyxy: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.xyxy
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise ValueError(f"not a half-open box: {self.xyxy}")
