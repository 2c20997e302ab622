"""Mitotic figures: a small network takes a second look at every nucleus that the flows found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

from models.backend import (
    ALL_NUCLEI,
    Image,
    Nuclei,
    NucleiBackend,
    OutOfRange,
    Quality,
)
from models.tiling import centroids
from models.vision.net import ASSUMED_MPP, fold_norms, plain_encoder
from models.vision.nuclei import resize
from models.vision.weights import WEIGHTS, ensemble, read_figures, read_weights

WORKING_MPP = 0.25
"""µm/px that the network sees: 40x."""
SIDE = 64
"""Side of a crop around a nucleus, px at `WORKING_MPP` (16 µm)."""
SIDES = (80, 64, 96, 112)
"""Sides of the crops that are looked at, each reduced to `SIDE`: cells differ in size, and scanners
in what they call 40x."""
_HOPELESS = 3.0
"""A nucleus whose first look is this far below the threshold, in logits, gets no other."""
FIGURE = "mitotic figure"
FIGURE_UM = 7.5
"""Two finds this close are one figure: the two sets of an anaphase or telophase."""
_EDGE_UM = 4.0
"""Nuclei this close to the image's edge are not looked at: half of them mirrored looks divided."""
_MPP_RANGE = (0.18, 0.55)
_BATCH = 64
_SHIPPED = WEIGHTS / "mitosis.safetensors"
_FINE, _COARSE = 40, 112  # channels at strides 8 and 16


def trunk_of(encoder: nn.Module) -> nn.Sequential:
    """The part of `plain_encoder` down to stride 16: its stem and five of its seven stages."""
    parts: Any = encoder  # torch types a module's children as tensors too
    return nn.Sequential(parts.conv_stem, parts.bn1, *parts.blocks[:5])


class MitosisNet(nn.Module):
    """Crops centred on a nucleus to the logit of a mitotic figure.

    (B, 3, `SIDE`, `SIDE`) float, 0..1, at `WORKING_MPP`, to (B,).
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = trunk_of(fold_norms(plain_encoder()))
        self.head = nn.Sequential(
            nn.Dropout(0.3),
            nn.Linear(2 * (_FINE + _COARSE), 64),
            nn.ReLU(inplace=True),
            nn.Linear(64, 1),
        )

    def forward(self, rgb: Tensor) -> Tensor:
        """Predict logits."""
        x = (rgb - 0.5) / 0.5  # the encoder's ImageNet weights expect -1..1
        x = x.contiguous(memory_format=torch.channels_last)  # a third faster on a CPU
        fine = self.encoder[:5](x)
        coarse = self.encoder[5:](fine)
        logits: Tensor = self.head(torch.cat([_pooled(fine), _pooled(coarse)], dim=1))
        return logits[:, 0]


def _pooled(features: Tensor) -> Tensor:
    """Means over the whole crop and over its middle, where the nucleus is: (B, 2 C)."""
    quarter = features.shape[-1] // 4
    middle = features[..., quarter:-quarter, quarter:-quarter]
    return torch.cat([features.mean((2, 3)), middle.mean((2, 3))], dim=1)


def cut(
    rgb: npt.NDArray[np.uint8],
    centre: tuple[float, float],
    side: int,
    bounds: tuple[int, int, int, int] | None = None,
) -> npt.NDArray[np.uint8]:
    """A square of `side` px around `centre`, mirrored where it reaches beyond the bounds.

    Args:
        rgb: uint8 (H, W, 3).
        centre: row and column, px.
        side: px, at most three times the bounds' height and width.
        bounds: top, bottom, left, right in px; by default those of `rgb`.
    """
    top, bottom, left, right = bounds or (0, rgb.shape[0], 0, rgb.shape[1])
    rows = _mirrored(round(centre[0] - side / 2), side, top, bottom)
    columns = _mirrored(round(centre[1] - side / 2), side, left, right)
    return rgb[rows[:, None], columns]


def _mirrored(start: int, count: int, low: int, high: int) -> npt.NDArray[np.int64]:
    """Indices `start` to `start + count`, folded back into `low` to `high` at its two ends."""
    size = high - low
    folded = (np.arange(start, start + count) - low) % (2 * size)
    return np.asarray(low + np.where(folded < size, folded, 2 * size - 1 - folded), np.int64)


def shrunk(crops: Tensor) -> Tensor:
    """Crops (B, 3, H, W) as the network sees them: (B, 3, `SIDE`, `SIDE`)."""
    if crops.shape[-1] == SIDE:
        return crops
    return functional.interpolate(crops, (SIDE, SIDE), mode="bilinear", antialias=True)


@torch.inference_mode()
def scores(
    net: nn.Module,
    rgb: npt.NDArray[np.uint8],
    centres: npt.NDArray[np.float64],
    side: int = SIDE,
) -> npt.NDArray[np.float32]:
    """Logit of a mitotic figure at each of `centres`.

    Args:
        net: a `MitosisNet` or an `Ensemble` of them, in evaluation mode.
        rgb: uint8 (H, W, 3) at `WORKING_MPP`.
        centres: float (n, 2), rows and columns in px.
        side: of the crops, px.

    Returns:
        float32 (n,).
    """
    out = [np.zeros(0, np.float32)]
    for start in range(0, len(centres), _BATCH):
        some = [cut(rgb, (y, x), side) for y, x in centres[start : start + _BATCH]]
        x = shrunk(torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float() / 255)
        x = x.to(next(net.parameters()).device).contiguous(memory_format=torch.channels_last)
        out.append(net(x).float().cpu().numpy())
    return np.concatenate(out)


def looks(
    net: nn.Module,
    rgb: npt.NDArray[np.uint8],
    centres: npt.NDArray[np.float64],
    threshold: float = -np.inf,
) -> npt.NDArray[np.float32]:
    """Mean of the `scores` over all `SIDES`: float32 (n,), minus infinity at the image's edge.

    Args:
        net: as for `scores`.
        rgb: uint8 (H, W, 3) at `WORKING_MPP`.
        centres: float (n, 2), rows and columns in px.
        threshold: from where it matters; what is far below at the first look gets no other.
    """
    found = np.full(len(centres), -np.inf, np.float32)
    inner = np.minimum(centres, np.array(rgb.shape[:2]) - centres).min(axis=1, initial=np.inf)
    seen = np.flatnonzero(inner >= _EDGE_UM / WORKING_MPP)
    found[seen] = scores(net, rgb, centres[seen], SIDES[0])
    again = seen[found[seen] > threshold - _HOPELESS]
    more = [scores(net, rgb, centres[again], side) for side in SIDES[1:]]
    found[again] = np.mean([found[again], *more], axis=0)
    return found


class MitoticFigures:
    """A `NucleiBackend` for one concept: mitotic figures of H&E at about 0.2 to 0.5 µm/px.

    Every nucleus that another backend finds is looked at again, at several sizes; finds closer than
    7.5 µm to each other are one figure, and its mask is that of its nuclei.

    Attributes:
        info: name, licence, checksums of its weights and of those that found the nuclei.
        cells: `FIGURE` and its measured quality.
        net: the networks, in evaluation mode.
        threshold: logit from which a nucleus is a figure.
    """

    def __init__(self, nuclei: NucleiBackend, weights: Path = _SHIPPED, device: str = "") -> None:
        """Load the network.

        Args:
            nuclei: finds all nuclei.
            weights: safetensors file written by `python -m models.train mitosis`.
            device: as torch names it; by default CUDA where there is one, else the CPU.
        """
        read = read_weights(weights)
        self.net = ensemble(MitosisNet, read, device)
        self.threshold = float(read.settings["threshold"])
        own = read.info("mitosis", "2")
        self.info = replace(
            own,
            version=f"{own.version} on {nuclei.info.name} {nuclei.info.version}",
            weights={**own.weights, **nuclei.info.weights},
        )
        self.cells: Mapping[str, Quality | None] = {FIGURE: read_figures(weights).get(FIGURE)}
        self._nuclei = nuclei

    def nuclei(self, image: Image, concept: str) -> Nuclei:
        """Find the mitotic figures.

        Raises:
            KeyError: `concept` is not in `cells`.
            OutOfRange: the pixels are too coarse or too fine.
        """
        if concept not in self.cells:
            raise KeyError(concept)
        mpp = image.mpp if image.mpp is not None else ASSUMED_MPP
        low, high = _MPP_RANGE
        if not low <= mpp <= high:
            raise OutOfRange(
                f"Mitotic figures are told from other nuclei at {low:g} to {high:g} µm/px, "
                f"and this image has {mpp:g}."
            )
        found = self._nuclei.nuclei(image, ALL_NUCLEI)
        scale = mpp / WORKING_MPP
        height, width = (max(1, round(side * scale)) for side in image.shape)
        centres = centroids(found.labels) * scale
        seen = resize(image.rgb, (height, width))
        certainty = expit(looks(self.net, seen, centres, self.threshold) - self.threshold)
        figure = together(centres, certainty > 0.5)
        n = int(figure.max(initial=0))
        confidence = np.zeros(n + 1, np.float32)
        np.maximum.at(confidence, figure, certainty)
        said = [
            f"second look of a trained classifier at {len(centres)} nuclei, "
            f"without those within {_EDGE_UM:g} µm of the edge"
        ]
        if image.mpp is None:
            said.append(f"resolution unknown, taken as {ASSUMED_MPP} µm/px")
        return Nuclei(
            labels=np.append(np.int32(0), figure)[found.labels].astype(np.int32),
            kinds=(FIGURE,) * n,
            confidence=confidence[1:],
            present=float(certainty.max(initial=0.0)),
            method="; ".join(said),
        )


def together(
    centres: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Numbers from 1 of the chosen nuclei, one to a chain of steps of up to 7.5 µm; else 0.

    Args:
        centres: float (n, 2), rows and columns in px at `WORKING_MPP`.
        chosen: bool (n,).
    """
    numbers = np.zeros(len(centres), np.int32)
    if chosen.sum() > 1:
        radius = FIGURE_UM / WORKING_MPP
        numbers[chosen] = fcluster(linkage(centres[chosen]), radius, "distance")
    else:
        numbers[chosen] = 1
    return numbers
