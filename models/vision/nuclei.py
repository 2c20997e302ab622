"""Nuclei by flows: the trained network, `cellpose.dynamics`, and the resampling around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from cellpose.dynamics import compute_masks
from cellpose.utils import fill_holes_and_remove_small_masks
from PIL import Image as Pillow
from scipy import ndimage
from skimage.segmentation import expand_labels, relabel_sequential
from torch.nn import functional

from models.backend import ALL_NUCLEI, Image, Nuclei, Quality
from models.memory import Memory
from models.tiling import Labels, Slices, stitch_instances
from models.vision.net import ASSUMED_MPP, KINDS, STRIDE, FlowNet
from models.vision.weights import WEIGHTS, inference_dtype, read_figures, read_weights, ready

_MPP_RANGE = (0.2, 1.0)
_CORE = 512
_MARGIN = 64
_KEPT = 4
_UNTYPED = KINDS[0]
_SEEN_AS = {
    ALL_NUCLEI: ALL_NUCLEI,
    "inflammatory cell": "inflammatory cell",
    "lymphocyte": "inflammatory cell",
    "epithelial cell": "epithelial cell",
    "spindle cell": "spindle cell",
    "fibroblast": "spindle cell",
}
_NOT_APART = {
    "lymphocyte": "lymphocytes and other inflammatory cells are not told apart",
    "fibroblast": "fibroblasts and other spindle cells (muscle, endothelium) are not told apart",
}


@dataclass(frozen=True)
class Settings:
    """What turns predictions into instances; comes with the weights.

    Attributes:
        mpp: µm/px that the network works at.
        inside: logit above which a pixel belongs to a nucleus.
        least: smallest instance, px at `mpp`.
        confidence: mean inside probability under which an instance is dropped.
    """

    mpp: float
    inside: float
    least: int
    confidence: float

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Settings:
        """From the metadata of a weights file."""
        return cls(
            mpp=float(settings["mpp"]),
            inside=float(settings["inside"]),
            least=int(settings["least"]),
            confidence=float(settings["confidence"]),
        )


@dataclass(frozen=True)
class Maps:
    """The network's predictions for one window.

    Attributes:
        flow: float32 (2, H, W), times `FLOW_SCALE`.
        inside: float32 (H, W), logit.
        kind: float32 (len(KINDS), H, W), probabilities.
    """

    flow: npt.NDArray[np.float32]
    inside: npt.NDArray[np.float32]
    kind: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Found:
    """All instances of one image, and what each one is: (n, len(KINDS)) probabilities."""

    labels: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    kind: npt.NDArray[np.float32]


def predict(net: FlowNet, rgb: npt.NDArray[np.uint8]) -> Maps:
    """Run `net` over one window and over its half turn, and average the two.

    The encoder pads its strided convolutions on one side only; the half turn evens that out.

    Args:
        net: in evaluation mode.
        rgb: uint8 (H, W, 3) at the working resolution; any size, mirrored up to the stride.
    """
    once = _predict_once(net, rgb)
    again = _predict_once(net, np.ascontiguousarray(rgb[::-1, ::-1]))
    back = (..., slice(None, None, -1), slice(None, None, -1))
    half = np.float32(0.5)
    return Maps(
        half * (once.flow - again.flow[back]),
        half * (once.inside + again.inside[back]),
        half * (once.kind + again.kind[back]),
    )


@torch.inference_mode()
def _predict_once(net: FlowNet, rgb: npt.NDArray[np.uint8]) -> Maps:
    device = next(net.parameters()).device
    height, width = rgb.shape[:2]
    pad = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
    padded = torch.from_numpy(np.pad(rgb, pad, mode="symmetric")).to(device)
    x = padded.permute(2, 0, 1)[None].float() / 255
    dtype = inference_dtype(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        out = net(x.contiguous(memory_format=torch.channels_last))
    flow, inside, kind = (
        plane[0, :, :height, :width].float().cpu()
        for plane in (out.flow, out.inside, functional.softmax(out.kind.float(), dim=1))
    )
    return Maps(flow.numpy(), inside[0].numpy(), kind.numpy())


def instances(maps: Maps, settings: Settings) -> npt.NDArray[np.int32]:
    """Instances 1..n of one window, int32 (H, W): Cellpose's dynamics, holes filled.

    Small ones and those that the network doubts are dropped.
    """
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, said so: else it warns
    if not (maps.inside > settings.inside).any():
        return np.zeros(maps.inside.shape, np.int32)
    found = compute_masks(
        maps.flow,
        maps.inside,
        niter=100,
        cellprob_threshold=settings.inside,
        flow_threshold=0,  # its check takes most of the time and drops as many right as wrong
        max_size_fraction=1.0,
    )
    kept = np.asarray(fill_holes_and_remove_small_masks(found, min_size=settings.least), np.int32)
    doubted = confidences(maps.inside, kept) < settings.confidence
    trusted = np.where(np.append(False, doubted)[kept], 0, kept)
    return np.asarray(relabel_sequential(trusted)[0], np.int32)


def confidences(
    inside: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]
) -> npt.NDArray[np.float64]:
    """Mean inside probability of the instances 1..n of `labels`, (n,)."""
    numbers = np.arange(1, int(labels.max(initial=0)) + 1)
    return np.asarray(ndimage.mean(1 / (1 + np.exp(-inside)), labels, numbers)).reshape(-1)


def resize(rgb: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """`rgb` resampled to `shape` (rows, columns), antialiased."""
    if rgb.shape[:2] == shape:
        return rgb
    size = (shape[1], shape[0])
    return np.asarray(Pillow.fromarray(rgb).resize(size, Pillow.Resampling.BILINEAR))


def enlarge(
    labels: npt.NDArray[np.int32],
    inside: npt.NDArray[np.float32],
    shape: tuple[int, int],
    threshold: float,
) -> npt.NDArray[np.int32]:
    """Instances at another resolution, with edges from the interpolated inside logit.

    Args:
        labels: int32 (h, w).
        inside: float32 (h, w), logit.
        shape: (rows, columns) wanted.
        threshold: logit at the edge of a nucleus.
    """
    if labels.shape == shape:
        return labels
    size = (shape[1], shape[0])
    grown = Pillow.fromarray(expand_labels(labels, 1.5)).resize(size, Pillow.Resampling.NEAREST)
    smooth = Pillow.fromarray(inside).resize(size, Pillow.Resampling.BILINEAR)
    return np.where(np.asarray(smooth) > threshold, np.asarray(grown), 0).astype(np.int32)


class FlowNuclei:
    """A `NucleiBackend`: nuclei of H&E at 0.2 to 1 µm/px, with four types taught by CoNSeP.

    Images of any size go through in tiles. The instances of the last few images are kept, so
    that asking for another concept of the same image costs milliseconds.

    Attributes:
        info: name, licence, checksum of the weights.
        cells: the concepts and their measured quality.
        settings: thresholds that came with the weights.
        net: the network, in evaluation mode.
    """

    def __init__(self, weights: Path = WEIGHTS / "nuclei.safetensors", device: str = "") -> None:
        """Load the network.

        Args:
            weights: safetensors file written by `python -m models.train nuclei`.
            device: as torch names it; by default CUDA where there is one, else the CPU.
        """
        read = read_weights(weights)
        self.settings = Settings.of(read.settings)
        self.net = ready(FlowNet(), read.tensors, device)
        self.info = read.info("flow", "1")
        figures = read_figures(weights)
        self.cells: Mapping[str, Quality | None] = {name: figures.get(name) for name in _SEEN_AS}
        self._memory = Memory(_KEPT)

    def nuclei(self, image: Image, concept: str) -> Nuclei:
        """Find the instances of `concept`, a key of `cells`.

        Raises:
            KeyError: `concept` is not in `cells`.
        """
        kind = _SEEN_AS[concept]
        found = self._memory.get((image.digest, image.mpp), lambda: self._segment(image))
        if kind == ALL_NUCLEI:
            wanted = np.ones(len(found.confidence), bool)
            confidence = found.confidence
        else:
            wanted = found.kind.argmax(axis=1) == KINDS.index(kind)
            confidence = found.confidence * found.kind[:, KINDS.index(kind)]
        table = np.zeros(len(wanted) + 1, np.int32)
        table[1:][wanted] = np.arange(1, int(wanted.sum()) + 1)
        names = [ALL_NUCLEI if k == _UNTYPED else k for k in KINDS]
        kinds = tuple(names[int(i)] for i in found.kind[wanted].argmax(axis=1))
        confidence = confidence[wanted]
        return Nuclei(
            labels=table[found.labels],
            kinds=kinds,
            confidence=confidence,
            present=float(confidence.max(initial=0.0)),
            method=self._method(concept, image.mpp),
        )

    def _method(self, concept: str, mpp: float | None) -> str:
        said = ["trained flow network (EfficientNet-Lite0) and Cellpose dynamics"]
        if concept in _NOT_APART:
            said.append(_NOT_APART[concept])
        if mpp is None:
            said.append(f"resolution unknown, taken as {ASSUMED_MPP} µm/px")
        elif not _MPP_RANGE[0] <= mpp <= _MPP_RANGE[1]:
            low, high = _MPP_RANGE
            said.append(f"{mpp:g} µm/px is outside {low:g} to {high:g}, where it was trained")
        return "; ".join(said)

    def _segment(self, image: Image) -> _Found:
        mpp = image.mpp if image.mpp is not None else ASSUMED_MPP
        scale = min(mpp, _MPP_RANGE[1]) / self.settings.mpp
        height, width = (max(8, round(side * scale)) for side in image.shape)
        rgb = resize(image.rgb, (height, width))
        inside = np.full((height, width), -100.0, np.float32)
        kind = np.zeros((len(KINDS), height, width), np.float16)

        def look(window: Slices) -> tuple[Labels, npt.NDArray[np.float32]]:
            maps = predict(self.net, rgb[window])
            np.maximum(inside[window], maps.inside, out=inside[window])
            kind[:, *window] = maps.kind
            found = instances(maps, self.settings)
            return found, np.ones(int(found.max()), np.float32)  # confidences come from the whole

        labels, _ = stitch_instances((height, width), _CORE, _MARGIN, look)
        return self._describe(
            enlarge(labels, inside, image.shape, self.settings.inside), labels, inside, kind
        )

    def _describe(
        self,
        final: npt.NDArray[np.int32],
        labels: npt.NDArray[np.int32],
        inside: npt.NDArray[np.float32],
        kind: npt.NDArray[np.float16],
    ) -> _Found:
        """Number the instances that are left after the resampling; measure them before it."""
        final, _, numbers = relabel_sequential(final)
        kept = np.asarray(numbers)[1:]
        confidence = confidences(inside, labels)[kept - 1]
        kinds = [ndimage.mean(plane.astype(np.float32), labels, kept) for plane in kind]
        return _Found(
            final.astype(np.int32),
            confidence.astype(np.float32),
            np.asarray(kinds, np.float32).reshape(len(KINDS), len(kept)).T,
        )
