"""What every vision backend takes and gives.

A backend answers one or more of four questions about an image: is it H&E (`Gate`), which tissue is
it (`Tissue`), where is a region (`Region`), where are the nuclei (`Nuclei`). It declares a
vocabulary of ontology concept names with a measured quality each; a concept outside it is never
answered with its nearest neighbour: the caller looks there first and says what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ALL_NUCLEI = "nucleus"
"""The concept name that means every nucleus, whatever its type."""


class OutOfRange(ValueError):  # noqa: N818 - named for what the image is
    """A backend can't look at this image truthfully; the message says why, in one sentence."""


def array_digest(array: Array) -> str:
    """SHA-256 over dtype, shape and the raw C-order bytes of `array`, as 64 hex digits."""
    head = f"{array.dtype.str}|{','.join(map(str, array.shape))}|".encode()
    digest = hashlib.sha256(head)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Image:
    """An RGB region of interest.

    Attributes:
        rgb: uint8, shape (height, width, 3), sRGB order red, green, blue.
        mpp: microns a pixel (µm/px) of `rgb`, or None where nobody knows.
        digest: `array_digest(rgb)`; computed where it is not given.
    """

    rgb: npt.NDArray[np.uint8]
    mpp: float | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(f"an image is uint8 (H, W, 3), not {self.rgb.dtype} {self.rgb.shape}")
        if not self.digest:
            object.__setattr__(self, "digest", array_digest(self.rgb))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        return (int(self.rgb.shape[0]), int(self.rgb.shape[1]))


@dataclass(frozen=True)
class Quality:
    """A measured figure: what `metric` came to on `dataset` (n images or cases)."""

    metric: str
    value: float
    dataset: str
    n: int


@dataclass(frozen=True)
class BackendInfo:
    """Who answers: shown in tool outputs and recorded in traces.

    Attributes:
        name: short, stable, as typed by users (`classical`).
        version: changes whenever the same image could give another answer.
        licence: SPDX id or the words of the weights' card.
        weights: file name to SHA-256 of every weights file that is used.
    """

    name: str
    version: str
    licence: str
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate:
    """Whether the image can be an H&E field. `reasons` are short phrases, worst first."""

    is_he: bool
    probability: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tissue:
    """Organ estimate. `label` is None where the backend abstains; `ranked` is best first."""

    label: str | None
    probability: float
    ranked: tuple[tuple[str, float], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Region:
    """A semantic mask.

    Attributes:
        mask: bool, shape (H, W) of the image.
        present: probability in 0..1 that the structure is in the image at all.
        method: one phrase that names how the mask came to be and what it takes in.
    """

    mask: npt.NDArray[np.bool_]
    present: float
    method: str


@dataclass(frozen=True)
class Nuclei:
    """Nuclei as instances.

    Attributes:
        labels: int32, shape (H, W); 0 is background, 1..n the instances, contiguous.
        kinds: the n instances' types (ontology cell names, `nucleus` where not typed).
        confidence: float32, shape (n,), each instance's confidence in 0..1.
        present: probability in 0..1 that any instance of the concept is there.
        method: one phrase that names how they were found.
    """

    labels: npt.NDArray[np.int32]
    kinds: tuple[str, ...]
    confidence: npt.NDArray[np.float32]
    present: float
    method: str


@runtime_checkable
class GateBackend(Protocol):
    """Answers: is this H&E?"""

    info: BackendInfo

    def gate(self, image: Image) -> Gate:
        """Judge `image`; never raises on an image of any size or content."""
        ...


@runtime_checkable
class TissueBackend(Protocol):
    """Answers: which organ is this? `organs` are the ontology names it was taught."""

    info: BackendInfo
    organs: tuple[str, ...]

    def tissue(self, image: Image) -> Tissue:
        """Name the organ, or abstain."""
        ...


@runtime_checkable
class RegionBackend(Protocol):
    """Answers: where is this region? `regions` maps concept names to measured quality."""

    info: BackendInfo
    regions: Mapping[str, Quality | None]

    def region(self, image: Image, concept: str) -> Region:
        """Outline `concept`, a key of `regions`."""
        ...


@runtime_checkable
class NucleiBackend(Protocol):
    """Answers: where are these nuclei? `cells` maps concept names to measured quality."""

    info: BackendInfo
    cells: Mapping[str, Quality | None]

    def nuclei(self, image: Image, concept: str) -> Nuclei:
        """Find the instances of `concept`, a key of `cells` (`ALL_NUCLEI` for all).

        Raises:
            OutOfRange: the image's pixels are too coarse to tell.
        """
        ...
