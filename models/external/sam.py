"""Segment Anything (Kirillov et al., ICCV 2023) refining the regions of another backend.

SAM knows edges and no names. The other backend says where the structure is; each connected part of
its mask becomes a prompt: a box, points deep inside, points outside. SAM's answer is taken where it
agrees with the part that it was asked about; elsewhere the part stays as it was.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from segment_anything import SamPredictor, sam_model_registry

from models.backend import BackendInfo, Image, Quality, Region, RegionBackend
from models.external.config import SamEntry
from models.memory import Memory
from models.tiling import Slices, tiles

Mask = npt.NDArray[np.bool_]

_SIDE = 1024
"""Side at which SAM looks, px: an image within it is seen whole, a larger one in tiles."""
_HALO = 128
_KEPT = 64
"""Encodings of tiles that are kept: 4 MB each."""
_LEAST_PX = 64
_POSITIVES = 3
_NEGATIVES = 4
_MARGIN = 0.1
_AGREES = 0.5


@dataclass(frozen=True)
class Prompt:
    """What SAM is asked about one part of a mask.

    Attributes:
        points: float (n, 2), x and y in px of the window.
        labels: int (n,), 1 inside the structure, 0 outside.
        box: float (4,), x0, y0, x1, y1 in px.
    """

    points: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    box: npt.NDArray[np.float64]


def deepest(mask: Mask, count: int) -> list[tuple[int, int]]:
    """Up to `count` points (row, column) that lie deepest in `mask`, apart from each other.

    Each is the maximum of the distance to the edge of the mask and to the points before it.
    """
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    found: list[tuple[int, int]] = []
    for _ in range(count):
        at = int(depth.argmax())
        row, column = divmod(at, mask.shape[1])
        if depth[row, column] < 1:
            break
        found.append((row, column))
        away = np.hypot(*np.ogrid[-row : mask.shape[0] - row, -column : mask.shape[1] - column])
        depth = np.minimum(depth, away)
    return found


def prompt(part: Mask, mask: Mask) -> Prompt:
    """The prompt for `part`, one connected part of `mask`, both bool (H, W).

    Positive points lie deep in the part. Negative ones lie in its box, widened by a tenth, as far
    as can be from the whole of `mask`.
    """
    rows, columns = ndimage.find_objects(part.astype(np.uint8))[0]
    box = np.array([columns.start, rows.start, columns.stop - 1, rows.stop - 1], float)
    near = (_widened(rows, part.shape[0]), _widened(columns, part.shape[1]))
    inside = deepest(part[near], _POSITIVES)
    outside = deepest(~mask[near], _NEGATIVES)
    offset = (near[0].start, near[1].start)
    points = np.array(inside + outside, float) + offset
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    return Prompt(points[:, ::-1].copy(), labels, box)


def _widened(side: slice, length: int) -> slice:
    more = int((side.stop - side.start) * _MARGIN) + 1
    return slice(max(0, side.start - more), min(length, side.stop + more))


def best(candidates: Mask, part: Mask) -> Mask | None:
    """The one of `candidates`, (n, H, W), whose IoU with `part` is highest; None below one half."""
    shared = (candidates & part).sum(axis=(1, 2))
    agreement = shared / (candidates | part).sum(axis=(1, 2))
    at = int(agreement.argmax())
    return candidates[at] if agreement[at] >= _AGREES else None


class SamRegions:
    """A `RegionBackend` that gives the regions of another one the edges that SAM sees.

    Args:
        entry: the checkpoint, in the upstream format.
        coarse: the backend that says where a structure is.

    Attributes:
        info: SAM's and the other backend's together.
        regions: the other backend's vocabulary; its figures are not those of the refined masks.
    """

    def __init__(self, entry: SamEntry, coarse: RegionBackend) -> None:
        sam = sam_model_registry[entry.model_type](checkpoint=str(entry.checkpoint))
        self._predictor = SamPredictor(sam.to(entry.torch_device()))
        self._coarse = coarse
        self._kind = entry.model_type
        licences = dict.fromkeys(("Apache-2.0", coarse.info.licence))
        self.info = BackendInfo(
            name="sam",
            version=f"1+{entry.sha256[:12]} over {coarse.info.name} {coarse.info.version}",
            licence="; ".join(licences),
            weights={**coarse.info.weights, entry.checkpoint.name: entry.sha256},
        )
        self.regions: Mapping[str, Quality | None] = dict.fromkeys(coarse.regions)
        self._memory = Memory(_KEPT)
        self._lock = threading.Lock()

    def region(self, image: Image, concept: str) -> Region:
        """Outline `concept`, a key of `regions`; presence is the other backend's.

        Raises:
            KeyError: `concept` is not in `regions`.
        """
        found = self._coarse.region(image, concept)
        mask = np.zeros_like(found.mask)
        refined = asked = 0
        halo = 0 if max(image.shape) <= _SIDE else _HALO
        for tile in tiles(image.shape, _SIDE - 2 * halo, halo):
            with self._lock:  # the predictor holds one image at a time
                fine, count = self._refine(image, tile.window, found.mask[tile.window])
            mask[tile.core] = fine[tile.core_in_window]
            refined, asked = refined + count[0], asked + count[1]
        edges = f"edges by Segment Anything ({self._kind}) on {refined} of {asked} parts"
        method = f"{found.method}; {edges}"
        return replace(found, mask=mask, method=method)

    def _refine(self, image: Image, window: Slices, mask: Mask) -> tuple[Mask, tuple[int, int]]:
        """The refined mask of one window, and how many of its parts were refined, of how many."""
        labels, _ = ndimage.label(mask)
        sizes = np.bincount(labels.ravel())
        parts = [n for n in range(1, len(sizes)) if sizes[n] >= _LEAST_PX]
        if not parts or mask.all():
            return mask, (0, 0)
        self._look(image, window)
        fine, refined = mask.copy(), 0
        for number in parts:
            part = labels == number
            answer = best(self._ask(prompt(part, mask)), part)
            if answer is not None:
                fine = (fine & ~part) | answer
                refined += 1
        return fine, (refined, len(parts))

    def _ask(self, asked: Prompt) -> Mask:
        masks, _, _ = self._predictor.predict(asked.points, asked.labels, asked.box)
        result: Mask = masks
        return result

    def _look(self, image: Image, window: Slices) -> None:
        """Put the encoding of a window into the predictor, computed where it is not kept."""
        predictor = self._predictor

        def encode() -> tuple[torch.Tensor, tuple[int, ...], tuple[int, ...]]:
            predictor.set_image(np.ascontiguousarray(image.rgb[window]))
            return predictor.features, predictor.original_size, predictor.input_size

        place = tuple((side.start, side.stop) for side in window)
        kept = self._memory.get((image.digest, place), encode)
        predictor.features, predictor.original_size, predictor.input_size = kept
        predictor.is_image_set = True
