"""What the production backends for nuclei share: they find every nucleus and tell no types."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from models.backend import ALL_NUCLEI, BackendInfo, Image, Nuclei, Quality
from models.classical.scale import image_scale
from models.memory import Memory
from models.tiling import Labels

COARSEST_MPP = 1.0
_KEPT = 4

Found = tuple[Labels, npt.NDArray[np.float32]]
Find = Callable[[npt.NDArray[np.uint8], float], Found]
"""From RGB, uint8 (H, W, 3), and its µm/px: the instances 1..n, int32 (H, W), and n confidences."""


class UntypedNuclei:
    """A `NucleiBackend` around one function; the instances of the last images are kept.

    Args:
        info: who answers.
        find: the model with the resampling around it.
        method: how it finds them, in one phrase.

    Attributes:
        info: as given.
        cells: every nucleus; nothing was measured here, since the weights are the user's.
    """

    def __init__(self, info: BackendInfo, find: Find, method: str) -> None:
        self.info = info
        self.cells: Mapping[str, Quality | None] = {ALL_NUCLEI: None}
        self._find = find
        self._method = method
        self._memory = Memory(_KEPT)
        self._lock = threading.Lock()

    def nuclei(self, image: Image, concept: str) -> Nuclei:
        """Find every nucleus.

        Raises:
            KeyError: `concept` is not in `cells`.
            OutOfRange: a pixel is larger than `COARSEST_MPP`.
        """
        if concept not in self.cells:
            raise KeyError(concept)
        scale = image_scale(image.mpp)
        scale.refuse_above(COARSEST_MPP)
        with self._lock:  # one image at a time on the device
            labels, confidence = self._memory.get(
                (image.digest, scale), lambda: self._find(image.rgb, scale.mpp)
            )
        return Nuclei(
            labels=labels,
            kinds=(ALL_NUCLEI,) * len(confidence),
            confidence=confidence,
            present=float(confidence.max(initial=0.0)),
            method=self._method + scale.caveat,
        )
