"""Global features of an H&E image: pooled activations of a frozen EfficientNet-Lite0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.vision.weights import inference_dtype

SIDE = 224
"""Side of a view as the encoder sees it, px: what it was trained at."""
_CORNER = 0.7
_TISSUE_DENSITY = 0.12
_MIN_TISSUE = 100
# A common haematoxylin and eosin field: mean and spread of the optical density of R, G, B.
_DENSITY_MEAN = (0.45, 0.85, 0.35)
_DENSITY_SPREAD = (0.25, 0.32, 0.18)


def even_stain(rgb: Tensor) -> Tensor:
    """Bring the stain of a picture to a common one, by matching optical density statistics.

    Mean and standard deviation a channel, over pixels that hold tissue (after Reinhard et al., IEEE
    CG&A 2001, in optical density). A picture with hardly any tissue comes back as it is.

    Args:
        rgb: float (3, H, W), 0..1.
    """
    density = -torch.log(rgb.clamp_min(1 / 255))
    tissue = density.mean(0) > _TISSUE_DENSITY
    if int(tissue.sum()) < _MIN_TISSUE:
        return rgb
    values = density[:, tissue]
    mean, spread = values.mean(1)[:, None, None], values.std(1)[:, None, None].clamp_min(0.05)
    wanted_mean = torch.tensor(_DENSITY_MEAN)[:, None, None]
    wanted_spread = torch.tensor(_DENSITY_SPREAD)[:, None, None]
    matched = (density - mean) / spread * wanted_spread + wanted_mean
    return torch.exp(-torch.where(tissue, matched, density).clamp(0, 6))


def square(rgb: Tensor, top: int, left: int, side: int) -> Tensor:
    """The square of `side` px at (top, left) of `rgb` (3, H, W), as a view of `SIDE` px."""
    part = rgb[None, :, top : top + side, left : left + side]
    return functional.interpolate(part, (SIDE, SIDE), mode="bilinear", antialias=True)[0].clamp(
        0, 1
    )


def as_float(rgb: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) as float (3, H, W), 0..1."""
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255


def views(rgb: npt.NDArray[np.uint8]) -> Tensor:
    """Three stain-evened views of an image, (3, 3, `SIDE`, `SIDE`): the centre, two corners."""
    whole = as_float(rgb)
    height, width = whole.shape[1:]
    side = min(height, width)
    part = max(1, int(side * _CORNER))
    places = [
        ((height - side) // 2, (width - side) // 2, side),
        (0, 0, part),
        (height - part, width - part, part),
    ]
    return torch.stack([even_stain(square(whole, *place)) for place in places])


@torch.inference_mode()
def pooled(encoder: nn.Module, batch: Tensor) -> npt.NDArray[np.float32]:
    """Mean and standard deviation of the encoder's activations at strides 16 and 32.

    Args:
        encoder: EfficientNet-Lite0 as a feature pyramid, in evaluation mode.
        batch: (B, 3, `SIDE`, `SIDE`), 0..1.

    Returns:
        float32 (B, 864): for each stride, the means and then the deviations of its channels.
    """
    dtype = inference_dtype(batch.device)
    x = ((batch - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
    with torch.autocast(batch.device.type, dtype, enabled=dtype != torch.float32):
        maps = encoder(x)[-2:]
    parts = [torch.cat([m.float().mean((2, 3)), m.float().std((2, 3))], dim=1) for m in maps]
    return torch.cat(parts, dim=1).cpu().numpy()
