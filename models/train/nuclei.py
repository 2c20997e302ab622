"""Training of the nucleus network: seeded, resumable, the same command on CPU and GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from models.train.augment import Sample, draw_batch
from models.train.config import NucleiConfig
from models.train.fields import UNTYPED, Field
from models.train.loop import Terms, adapted_encoder, fit
from models.vision.net import FLOW_SCALE, Dense, FlowNet

_TYPE_WEIGHT = 0.5


class _Batches(Dataset[Sample]):
    """Batch number i as a function of the seed and i alone."""

    def __init__(self, fields: list[Field], config: NucleiConfig) -> None:
        self.config = config
        self.sources = {
            name: [field for field in fields if field.source == name] for name in config.sources
        }
        self.weights = np.array([source.weight for source in config.sources.values()])

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Sample:
        rng = np.random.default_rng([self.config.seed, step])
        config = self.config
        return draw_batch(self.sources, self.weights, config.crop, config.batch, rng)


def nuclei_loss(out: Dense, target: Sample) -> Terms:
    """The loss's terms, each a scalar: `flow`, `inside`, `kind` (0 where nothing is typed).

    Pixels that lie outside the image (`valid` 0) or have no type are left out.
    """
    valid = target.valid
    share = valid.mean().clamp_min(1e-6)
    flow = functional.mse_loss(out.flow.float(), FLOW_SCALE * target.flow, reduction="none")
    inside = functional.binary_cross_entropy_with_logits(
        out.inside.float(), target.inside, reduction="none"
    )
    typed = int((target.kind != UNTYPED).sum())
    kind = functional.cross_entropy(
        out.kind.float(), target.kind, ignore_index=UNTYPED, reduction="sum", label_smoothing=0.05
    )
    return {
        "flow": 0.5 * (flow * valid).mean() / share,
        "inside": (inside * valid).mean() / share,
        "kind": _TYPE_WEIGHT * kind / max(typed, 1),
    }


def _loss(net: nn.Module, batch: Sample) -> Terms:
    return nuclei_loss(net(batch.rgb), batch)


def train(fields: list[Field], config: NucleiConfig, out: Path) -> dict[str, Tensor]:
    """Train, or go on from `out/nuclei.ckpt`; log to `out/nuclei.csv`.

    Args:
        fields: to train on.
        config: of the run.
        out: folder for checkpoint and log.

    Returns:
        The averaged weights, on the CPU.
    """
    batches = _Batches(fields, config)
    torch.manual_seed(config.seed)
    net = FlowNet()
    if not (out / "nuclei.ckpt").exists():
        net.encoder.load_state_dict(adapted_encoder(batches).state_dict())
    return fit(net, batches, config.steps, _loss, config, out / "nuclei")
