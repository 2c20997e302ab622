"""The classical backend: one object that answers all four questions without learned weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.backend import (
    ALL_NUCLEI,
    BackendInfo,
    Gate,
    Image,
    Nuclei,
    Quality,
    Region,
    Tissue,
)
from models.classical.gate import judge
from models.classical.nuclei import COARSEST_MPP, find_nuclei
from models.classical.regions import RULES, Scene
from models.classical.scale import Scale, enlarge_mask, image_scale, reduce_rgb
from models.classical.stain import Float, StainProfile, estimate_profile
from models.classical.tissue import Mask, map_tissue
from models.memory import Memory
from models.tiling import Labels

VERSION = "2"
_MEASURED = {
    ALL_NUCLEI: Quality("PQ", 0.566, "MoNuSeg test", 14),
    "fat droplet": Quality("Dice", 0.773, "ISBI 2019 liver steatosis", 7),
}
"""As `python -m eval vision` and `python -m eval.regions` printed them."""
_NO_ORGAN = (
    "color and texture do not tell organs apart across laboratories, and no classifier that "
    "does is configured"
)


class ClassicalBackend:
    """H&E analysis by stain separation, component trees and shape.

    Implements `GateBackend`, `TissueBackend`, `RegionBackend` and `NucleiBackend`. Safe to share
    between threads. What it found in the last images is kept, so that a follow-up is quick.

    Args:
        remembered: how many intermediate results to keep; about three belong to an image.
    """

    def __init__(self, remembered: int = 12) -> None:
        self.info = BackendInfo(name="classical", version=VERSION, licence="Apache-2.0")
        self.organs: tuple[str, ...] = ()
        self.regions: Mapping[str, Quality | None] = {name: _MEASURED.get(name) for name in RULES}
        self.cells: Mapping[str, Quality | None] = {ALL_NUCLEI: _MEASURED[ALL_NUCLEI]}
        self._memory = Memory(remembered)

    def gate(self, image: Image) -> Gate:
        """Judge whether `image` is an H&E field; never raises, whatever its size or content."""
        return judge(image.rgb)

    def tissue(self, image: Image) -> Tissue:  # noqa: ARG002 - the answer is the same for all
        """Abstain, and say why."""
        return Tissue(label=None, probability=0.0, note=_NO_ORGAN)

    def region(self, image: Image, concept: str) -> Region:
        """Outline `concept`.

        Raises:
            KeyError: `concept` is not in `regions`.
        """
        rule = RULES[concept]
        scale = image_scale(image.mpp)
        scene = self._scene(image, scale)
        found = rule(scene)
        mask = enlarge_mask(found.mask.astype(np.float32), scene.tissue.factor, image.shape)
        present = found.present if mask.any() else 0.0
        return Region(mask, present, found.method + scale.caveat)

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
        labels, confidence = self._nuclei(image, scale)
        method = "hematoxylin component tree and watershed, no learning"
        return Nuclei(
            labels=labels,
            kinds=(ALL_NUCLEI,) * len(confidence),
            confidence=confidence,
            present=_any_real(confidence),
            method=method + scale.caveat,
        )

    def _profile(self, image: Image) -> StainProfile:
        return self._memory.get(("profile", image.digest), lambda: estimate_profile(image.rgb))

    def _nuclei(self, image: Image, scale: Scale) -> tuple[Labels, Float]:
        return self._memory.get(
            ("nuclei", image.digest, scale),
            lambda: find_nuclei(image.rgb, self._profile(image), scale),
        )

    def _scene(self, image: Image, scale: Scale) -> Scene:
        tissue = self._memory.get(
            ("tissue", image.digest, scale),
            lambda: map_tissue(image.rgb, self._profile(image), scale),
        )

        def nuclei() -> Mask:
            labels, _ = self._nuclei(image, scale)
            painted = np.repeat(np.where(labels > 0, np.uint8(255), np.uint8(0))[..., None], 3, 2)
            return np.asarray(reduce_rgb(painted, tissue.factor)[..., 0] > 127)

        return Scene(tissue, nuclei)


def _any_real(confidence: Float) -> float:
    """Probability that at least one instance is real, from the ten most confident ones."""
    if not len(confidence):
        return 0.0
    best = np.sort(confidence)[-10:]
    return float(1 - np.prod(1 - 0.9 * best.clip(0, 1)))
