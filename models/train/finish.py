"""What follows the training of the nucleus network: settings, weights file, model card."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from cellpose.metrics import aggregated_jaccard_index, average_precision
from safetensors.torch import save_file
from skimage.segmentation import relabel_sequential
from torch import Tensor

from models.train.cards import nuclei_card
from models.train.config import NucleiConfig
from models.train.fields import Field
from models.vision.net import FlowNet
from models.vision.nuclei import Maps, Settings, enlarge, instances, predict, resize

_MPPS = (0.3, 0.35, 0.4)
_INSIDE = (-0.75, -0.5, -0.25, 0.0)
_LEAST_UM2 = (1.5, 3.0)
_CONFIDENCE = 0.66
"""Five held-out fields ask for a little less, an ovary of another laboratory, where too many nuclei
are found, for more."""
_SIDE = 600


def _centre(field: Field) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = field.labels.shape
    top, left = max(0, rows - _SIDE) // 2, max(0, columns - _SIDE) // 2
    window = (slice(top, top + _SIDE), slice(left, left + _SIDE))
    return field.rgb[window], relabel_sequential(field.labels[window])[0]


def held_out_score(
    maps: Sequence[Maps], truths: Sequence[np.ndarray], settings: Settings
) -> tuple[float, float]:
    """Mean AJI and F1 at IoU 0.5 (`cellpose.metrics`) over windows of held-out fields."""
    aji, f1 = [], []
    for m, truth in zip(maps, truths, strict=True):
        shape = (int(truth.shape[0]), int(truth.shape[1]))
        found = relabel_sequential(
            enlarge(instances(m, settings), m.inside, shape, settings.inside)
        )[0]
        if not found.any():
            return 0.0, 0.0
        aji.append(float(aggregated_jaccard_index([truth], [found])[0]))
        _, tp, fp, fn = average_precision([truth], [found], [0.5])
        f1.append(float(2 * tp[0, 0] / (2 * tp[0, 0] + fp[0, 0] + fn[0, 0])))
    return float(np.mean(aji)), float(np.mean(f1))


def choose_settings(net: FlowNet, held: Sequence[Field]) -> tuple[Settings, tuple[float, float]]:
    """The working resolution and thresholds with the best mean of AJI and F1 on held-out fields.

    Returns:
        The settings, and their AJI and F1.
    """
    windows = [_centre(field) for field in held]
    best: tuple[float, Settings, tuple[float, float]] | None = None
    for mpp in _MPPS:
        maps = []
        for field, (rgb, _) in zip(held, windows, strict=True):
            scale = field.mpp / mpp
            shape = (round(rgb.shape[0] * scale), round(rgb.shape[1] * scale))
            maps.append(predict(net, resize(rgb, shape)))
        for inside, least in itertools.product(_INSIDE, _LEAST_UM2):
            settings = Settings(mpp, inside, round(least / mpp**2), _CONFIDENCE)
            score = held_out_score(maps, [truth for _, truth in windows], settings)
            if best is None or sum(score) > best[0]:
                best = (sum(score), settings, score)
    if best is None:
        raise ValueError("no held-out fields")
    return best[1], best[2]


def ship(
    state: dict[str, Tensor],
    fields: Sequence[Field],
    held: Sequence[Field],
    config: NucleiConfig,
    out: Path,
) -> None:
    """Choose the settings, write `out/nuclei.safetensors` (half precision) and its card.

    Args:
        state: the network's weights.
        fields: that it was trained on.
        held: that it was not.
        config: of the run.
        out: folder.
    """
    half = {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }
    net = FlowNet()
    net.load_state_dict({name: value.to(state[name].dtype) for name, value in half.items()})
    net.eval().to(memory_format=torch.channels_last)
    settings, score = choose_settings(net, held)
    metadata = {name: str(value) for name, value in asdict(settings).items()}
    metadata |= {"licence": config.licence, "steps": str(config.steps), "seed": str(config.seed)}
    weights = {name: value.contiguous() for name, value in half.items()}
    save_file(weights, out / "nuclei.safetensors", metadata)
    (out / "nuclei.md").write_text(
        nuclei_card(fields, held, config, settings, score, sum(v.numel() for v in state.values())),
        encoding="utf-8",
    )
