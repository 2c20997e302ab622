"""Crops and augmentation of H&E for training: scale, stain, blur, resolution, noise, JPEG.

Everything is a function of a numpy generator, so that a batch can be drawn again after a resume.
Colours are jittered in optical density (after Tellez et al., Medical Image Analysis 2019).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from skimage.color import rgb_from_hed
from torch import Tensor
from torch.nn import functional
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms.functional import gaussian_blur

from models.train.fields import UNTYPED, Field, unpack_flow
from models.vision.features import as_float
from models.vision.net import WORKING_MPP

_STAINS = torch.tensor(rgb_from_hed, dtype=torch.float32)  # rows: haematoxylin, eosin, residual
_ZOOM_SPREAD = 0.25
_ZOOM_RANGE = (0.6, 1.6)


class Sample(NamedTuple):
    """A crop at the working resolution, or a batch of them.

    Attributes:
        rgb: float (3, S, S), 0..1.
        flow: float (2, S, S), unit vectors (dy, dx) inside nuclei, zero outside.
        inside: float (1, S, S), the share of the pixel that lies inside nuclei.
        kind: int64 (S, S), type index or `UNTYPED`.
        valid: float (1, S, S), 0 where the crop reaches beyond the image.
    """

    rgb: Tensor
    flow: Tensor
    inside: Tensor
    kind: Tensor
    valid: Tensor


def cut(field: Field, side: int, zoom: float, rng: np.random.Generator) -> Sample:
    """A random square of `field`, resampled to `side` px at `WORKING_MPP / zoom`.

    Beyond the image's edge the picture is mirrored and `valid` is 0.
    """
    native = round(side * WORKING_MPP / zoom / field.mpp)
    height, width = field.labels.shape
    top = int(rng.integers(0, max(height - native, 0) + 1))
    left = int(rng.integers(0, max(width - native, 0) + 1))
    window = (slice(top, top + native), slice(left, left + native))
    rows, columns = field.labels[window].shape
    pad = ((0, native - rows), (0, native - columns))
    rgb = np.pad(field.rgb[window], (*pad, (0, 0)), mode="symmetric")
    planes = np.concatenate(
        [
            unpack_flow(field.flow[:, *window]),
            (field.labels[window] > 0)[None].astype(np.float32),
            np.ones((1, rows, columns), np.float32),
        ]
    )
    planes = np.pad(planes, ((0, 0), *pad))
    kind = np.pad(field.kinds[window], pad, constant_values=UNTYPED)
    size = (side, side)
    picture = as_float(rgb)[None]
    picture = functional.interpolate(picture, size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    dense = functional.interpolate(
        torch.from_numpy(planes)[None], size, mode="bilinear", antialias=True
    )[0]
    flow = dense[:2] / dense[:2].norm(dim=0, keepdim=True).clamp_min(1e-3)
    flow = flow * (dense[2:3] > 0.25)
    kinds = functional.interpolate(
        torch.from_numpy(kind)[None, None].float(), size, mode="nearest-exact"
    )
    return Sample(picture, flow, dense[2:3], kinds[0, 0].long(), (dense[3:4] > 0.99).float())


def turn(sample: Sample, quarter: int, mirror: bool) -> Sample:
    """`sample` mirrored left to right (if `mirror`), then turned by `quarter` times 90 degrees."""
    rgb, flow, inside, kind, valid = sample
    if mirror:
        rgb, flow, inside, kind, valid = (x.flip(-1) for x in (rgb, flow, inside, kind, valid))
        flow = torch.stack([flow[0], -flow[1]])
    for _ in range(quarter % 4):
        rgb, flow, inside, kind, valid = (
            x.rot90(1, (-2, -1)) for x in (rgb, flow, inside, kind, valid)
        )
        flow = torch.stack([-flow[1], flow[0]])
    return Sample(rgb, flow, inside, kind, valid)


def jitter_stain(rgb: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Vary stain amounts and stain colours of `rgb` (3, H, W; 0..1) in optical density."""
    density = -torch.log(rgb.clamp_min(1 / 255)).flatten(1).T
    amounts = density @ torch.linalg.inv(_STAINS)
    gain = 1 + strength * torch.tensor(rng.uniform(-0.3, 0.3, 3), dtype=torch.float32)
    shift = strength * torch.tensor(rng.uniform(-0.04, 0.04, 3), dtype=torch.float32)
    noise = strength * torch.tensor(rng.normal(0, 0.05, (3, 3)), dtype=torch.float32)
    density = (amounts * gain + shift) @ (_STAINS + noise)
    out = torch.exp(-density.clamp(0, 6)).T.reshape(rgb.shape)
    contrast = 1 + strength * rng.uniform(-0.15, 0.15)
    light = strength * rng.uniform(-0.06, 0.06)
    return ((out - 0.5) * contrast + 0.5 + light).clamp(0, 1)


def tint(rgb: Tensor, least: float = 0.1) -> Tensor:
    """Mean optical density of the stained pixels of `rgb` (3, H, W; 0..1), a channel: (3,).

    Stained is a pixel with a mean optical density of more than `least`.
    """
    density = -torch.log(rgb.clamp_min(1 / 255)).flatten(1)
    stained = density[:, density.mean(dim=0) > least]
    return stained.mean(dim=1) if stained.shape[1] else density.mean(dim=1).clamp_min(least)


def towards(own: Tensor, other: Tensor, share: float) -> Tensor:
    """What moves densities of the tint `own` by `share` (0..1) to `other`: their factors, (3,)."""
    return (other / own).clamp(0.4, 2.5) ** share


def retint(rgb: Tensor, other: Tensor, share: float) -> Tensor:
    """`rgb` (3, H, W; 0..1) with its `tint` moved by `share` (0..1) to another; white stays."""
    gain = towards(tint(rgb), other, share)
    density = -torch.log(rgb.clamp_min(1 / 255)) * gain[:, None, None]
    return torch.exp(-density).clamp(0, 1)


def degrade(rgb: Tensor, rng: np.random.Generator) -> Tensor:
    """At random: a coarser acquisition, blur, noise, JPEG. `rgb` is (3, H, W), 0..1."""
    size = [int(rgb.shape[1]), int(rgb.shape[2])]
    if rng.random() < 0.25:
        factor = rng.uniform(1.1, 2.2)
        small = [max(8, round(s / factor)) for s in size]
        rgb = functional.interpolate(rgb[None], small, mode="bilinear", antialias=True)
        rgb = functional.interpolate(rgb, size, mode="bilinear")[0]
    if rng.random() < 0.2:
        rgb = gaussian_blur(rgb, [5, 5], [float(rng.uniform(0.3, 1.2))])
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(0.01, 0.04), rgb.shape).astype(np.float32)
        rgb = rgb + torch.from_numpy(noise)
    if rng.random() < 0.3:
        whole = (rgb.clamp(0, 1) * 255).round().to(torch.uint8)
        rgb = decode_jpeg(encode_jpeg(whole, int(rng.integers(40, 95)))).float() / 255
    return rgb.clamp(0, 1)


def draw(fields: list[Field], side: int, rng: np.random.Generator) -> Sample:
    """One augmented crop of `side` px from one of `fields`, each as likely as the others."""
    field = fields[int(rng.integers(len(fields)))]
    zoom = float(np.exp(np.clip(rng.normal(0, _ZOOM_SPREAD), *np.log(_ZOOM_RANGE))))
    sample = turn(cut(field, side, zoom, rng), int(rng.integers(4)), bool(rng.random() < 0.5))
    rgb = sample.rgb
    if rng.random() < 0.9:
        rgb = jitter_stain(rgb, rng)
    return sample._replace(rgb=degrade(rgb, rng))


def draw_batch(
    sources: dict[str, list[Field]],
    weights: npt.NDArray[np.float64],
    side: int,
    size: int,
    rng: np.random.Generator,
) -> Sample:
    """A batch of `size` crops; each one's source is drawn by `weights` (in `sources`' order)."""
    groups = list(sources.values())
    picks = rng.choice(len(groups), size=size, p=weights / weights.sum())
    samples = [draw(groups[int(i)], side, rng) for i in picks]
    return Sample(*(torch.stack(planes) for planes in zip(*samples, strict=True)))
