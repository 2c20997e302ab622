"""Training of the nucleus network: seeded, resumable, the same command on CPU and GPU."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from models.train.augment import Sample, draw_batch
from models.train.config import NucleiConfig
from models.train.fields import UNTYPED, Field
from models.train.imagenet import imagenet_state
from models.vision.net import FLOW_SCALE, Dense, FlowNet, fold_norms, plain_encoder

_ADAPT_BATCHES = 12
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


def nuclei_loss(out: Dense, target: Sample) -> dict[str, Tensor]:
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


@torch.no_grad()
def _adapt_norms(encoder: nn.Module, batches: _Batches) -> None:
    """Take the batch statistics from H&E instead of from ImageNet's photographs."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    encoder.train()
    for step in range(_ADAPT_BATCHES):
        encoder((batches[step].rgb - 0.5) / 0.5)


def new_net(batches: _Batches, seed: int) -> FlowNet:
    """A network with the ImageNet encoder, its statistics adapted, and a seeded decoder."""
    encoder = plain_encoder()
    wanted = encoder.state_dict().keys()
    state = {name: value for name, value in imagenet_state().items() if name in wanted}
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"the encoder lacks {missing}, does not know {unexpected}")
    _adapt_norms(encoder, batches)
    torch.manual_seed(seed)
    net = FlowNet()
    net.encoder.load_state_dict(fold_norms(encoder).state_dict())
    return net


def rate_at(step: int, config: NucleiConfig) -> float:
    """The share of the peak learning rate at `step`: warm-up, constant, linear decay."""
    up = (step + 1) / config.warmup
    down = (config.steps - step) / config.decay
    return min(1.0, up, down)


def _optimiser(net: FlowNet, config: NucleiConfig) -> torch.optim.AdamW:
    encoder = list(net.encoder.parameters())
    known = {id(p) for p in encoder}
    rest = [p for p in net.parameters() if id(p) not in known]
    groups = [
        {"params": encoder, "lr": config.encoder_rate, "peak": config.encoder_rate},
        {"params": rest, "lr": config.rate, "peak": config.rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def _average(average: dict[str, Tensor], net: FlowNet, step: int, decay: float) -> None:
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, weight)


def _save(path: Path, **state: object) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _loader(batches: _Batches, start: int) -> Iterator[Sample]:
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(start, len(batches)),
            num_workers=1,
            prefetch_factor=4,
        )
    )


def train(fields: list[Field], config: NucleiConfig, out: Path) -> dict[str, Tensor]:
    """Train, or go on from `out/nuclei.ckpt`; log to `out/nuclei.csv`.

    Args:
        fields: to train on.
        config: of the run.
        out: folder for checkpoint and log.

    Returns:
        The averaged weights, on the CPU.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = _Batches(fields, config)
    checkpoint = out / "nuclei.ckpt"
    net = FlowNet() if checkpoint.exists() else new_net(batches, config.seed)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _optimiser(net, config)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        average, start = state["average"], int(state["step"])
    net.train()
    log = out / "nuclei.csv"
    began = time.monotonic()
    sums: dict[str, float] = {}
    for step, batch in enumerate(_loader(batches, start), start):
        terms = _step(net, optimiser, batch, config, step, device)
        _average(average, net, step, config.average)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
        done = step + 1
        if done % config.checkpoint_every == 0 or done == config.steps:
            count = (done - 1) % config.checkpoint_every + 1
            means = {name: value / count for name, value in sums.items()}
            sums = {}
            _save(
                checkpoint,
                net=net.state_dict(),
                optimiser=optimiser.state_dict(),
                average=average,
                step=done,
            )
            _log(log, done, time.monotonic() - began, means)
    return {name: value.cpu() for name, value in average.items()}


def _step(
    net: FlowNet,
    optimiser: torch.optim.AdamW,
    batch: Sample,
    config: NucleiConfig,
    step: int,
    device: torch.device,
) -> dict[str, float]:
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate_at(step, config)
    batch = Sample(*(plane.to(device, non_blocking=True) for plane in batch))
    rgb = batch.rgb.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16):
        out = net(rgb)
    terms = nuclei_loss(out, batch)
    optimiser.zero_grad(set_to_none=True)
    sum(terms.values(), torch.zeros((), device=device)).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimiser.step()
    return {name: value.item() for name, value in terms.items()}


def _log(path: Path, step: int, seconds: float, means: dict[str, float]) -> None:
    row = {"step": step, "seconds": round(seconds, 1)}
    row |= {name: round(value, 5) for name, value in means.items()}
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
