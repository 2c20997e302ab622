"""A TorchScript file in InstanSeg's format: pixels in, a label map out.

InstanSeg (Goldsborough et al., arXiv 2408.15954) puts its post-processing into the file too, so
that one call does it all.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from skimage.segmentation import relabel_sequential

from models.backend import BackendInfo
from models.external.config import TorchScriptEntry
from models.external.nuclei import Found, UntypedNuclei
from models.tiling import Labels, Slices, stitch_instances
from models.vision.nuclei import resize

_CORE = 512
_HALO = 64
_LEAST_SIDE = 128
"""InstanSeg looks at nuclei through windows of 64 px, which have to fit."""
_PERCENTILES = (0.1, 99.9)


def torchscript(entry: TorchScriptEntry) -> UntypedNuclei:
    """The backend, from a scripted or traced module.

    The module takes float32 (1, 3, H, W), each channel scaled so that its 0.1st and 99.9th
    percentiles are 0 and 1, at `entry.mpp` µm/px, and gives (1, C, H, W) label maps, the nuclei
    first. It gives no confidences; they are all 1.

    Raises:
        RuntimeError: the file is not TorchScript.
    """
    device = entry.torch_device()
    with warnings.catch_warnings():  # torch advises its other formats; InstanSeg's is this one
        warnings.simplefilter("ignore", FutureWarning)
        module = torch.jit.load(str(entry.checkpoint), map_location=device)

    @torch.inference_mode()
    def labelled(planes: npt.NDArray[np.float32]) -> Labels:
        height, width = planes.shape[1:]
        pad = ((0, 0), (0, max(0, _LEAST_SIDE - height)), (0, max(0, _LEAST_SIDE - width)))
        padded = torch.from_numpy(np.pad(planes, pad, mode="symmetric")).to(device)
        found = module(padded[None])[0, 0, :height, :width]
        return _contiguous(found.cpu().numpy())

    def find(rgb: npt.NDArray[np.uint8], mpp: float) -> Found:
        height, width = (max(1, round(side * mpp / entry.mpp)) for side in rgb.shape[:2])
        planes = normalised(resize(rgb, (height, width)))

        def look(window: Slices) -> tuple[Labels, npt.NDArray[np.float32]]:
            found = labelled(planes[:, *window])
            return found, np.ones(int(found.max(initial=0)), np.float32)

        labels, _ = stitch_instances((height, width), _CORE, _HALO, look)
        size = (rgb.shape[1], rgb.shape[0])
        grown = Pillow.fromarray(labels).resize(size, Pillow.Resampling.NEAREST)
        final = _contiguous(np.asarray(grown))
        return final, np.ones(int(final.max(initial=0)), np.float32)

    info = BackendInfo(
        name="torchscript",
        version=f"1+{entry.sha256[:12]}",
        licence=entry.licence,
        weights={entry.checkpoint.name: entry.sha256},
    )
    return UntypedNuclei(
        info, find, f"TorchScript model {entry.checkpoint.stem}, which gives no confidences"
    )


def normalised(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """float32 (3, H, W) of `rgb`, each channel's 0.1st and 99.9th percentiles at 0 and 1."""
    low, high = np.percentile(rgb, _PERCENTILES, axis=(0, 1)).astype(np.float32)
    scaled = (rgb - low) / np.maximum(high - low, np.float32(1e-3))
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def _contiguous(labels: npt.NDArray[np.generic]) -> Labels:
    return np.asarray(relabel_sequential(labels.astype(np.int32))[0], np.int32)
