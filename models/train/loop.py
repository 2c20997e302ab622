"""The training loop of the dense networks: seeded, resumable, the same on CPU and GPU."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from models.train.config import Schedule
from models.train.imagenet import imagenet_state
from models.vision.net import fold_norms, plain_encoder

_ADAPT_BATCHES = 12
Terms = dict[str, Tensor]
"""A loss's terms by name, each a scalar."""


@torch.no_grad()
def adapted_encoder(batches: Dataset[Any]) -> nn.Module:
    """ImageNet's encoder with batch statistics of H&E, norms folded.

    Args:
        batches: item i is a batch with `rgb`, (B, 3, S, S) in 0..1.
    """
    encoder = plain_encoder()
    wanted = encoder.state_dict().keys()
    state = {name: value for name, value in imagenet_state().items() if name in wanted}
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"the encoder lacks {missing}, does not know {unexpected}")
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    encoder.train()
    for step in range(_ADAPT_BATCHES):
        encoder((batches[step].rgb - 0.5) / 0.5)
    return fold_norms(encoder)


def rate_at(step: int, steps: int, schedule: Schedule) -> float:
    """The share of the peak learning rate at `step`: warm-up, constant, linear decay."""
    return min(1.0, (step + 1) / schedule.warmup, (steps - step) / schedule.decay)


def _layout(device: torch.device) -> torch.memory_format:
    """Channels last is the faster layout on a GPU; on a CPU, for training, it is the slower one."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _optimiser(net: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    free = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    encoder = [p for name, p in free if name.startswith("encoder.")]
    rest = [p for name, p in free if not name.startswith("encoder.")]
    groups = [
        {"params": encoder, "lr": schedule.encoder_rate, "peak": schedule.encoder_rate},
        {"params": rest, "lr": schedule.rate, "peak": schedule.rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=schedule.weight_decay)


def _average(average: dict[str, Tensor], net: nn.Module, step: int, decay: float) -> None:
    own = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
    # In one call: on a GPU the number of calls is what a step takes.
    update = get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))
    update([average[name] for name in own], list(own.values()), step)


def _save(path: Path, **state: object) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _loader(batches: Dataset[Any], start: int, steps: int) -> Iterator[Any]:
    """The batches in order: on a GPU every core but one draws them, on a CPU the others train."""
    workers = max(1, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 1
    order = range(start, steps)
    return iter(
        DataLoader(batches, batch_size=None, sampler=order, num_workers=workers, prefetch_factor=4)
    )


def fit(
    net: nn.Module,
    batches: Dataset[Any],
    steps: int,
    loss: Callable[[nn.Module, Any], Terms],
    schedule: Schedule,
    out: Path,
) -> dict[str, Tensor]:
    """Train `net`, or go on from `out` with `.ckpt`; log to the same with `.csv`.

    Args:
        net: its pretrained part is called `encoder`.
        batches: item i is batch i, a named tuple of tensors that holds `rgb`.
        steps: in all.
        loss: terms of the network's loss on a batch, to be added up.
        schedule: learning rates and the like.
        out: path of the checkpoint and log, without suffix.

    Returns:
        The averaged weights, on the CPU.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = _layout(device)
    net = net.to(device, memory_format=layout)  # type: ignore[call-overload]
    optimiser = _optimiser(net, schedule)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    checkpoint, start = out.with_suffix(".ckpt"), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        average, start = state["average"], int(state["step"])
    net.train()
    began = time.monotonic()
    sums: Terms = {}
    for step, batch in enumerate(_loader(batches, start, steps), start):
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * rate_at(step, steps, schedule)
        terms = _step(net, optimiser, batch, loss, device)
        _average(average, net, step, schedule.average)
        sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
        done = step + 1
        if done % schedule.checkpoint_every == 0 or done == steps:
            count = (done - 1) % schedule.checkpoint_every + 1
            means = {name: value.item() / count for name, value in sums.items()}
            sums = {}
            state = {"net": net.state_dict(), "optimiser": optimiser.state_dict()}
            _save(checkpoint, **state, average=average, step=done)
            _log(out.with_suffix(".csv"), done, time.monotonic() - began, means)
    return {name: value.cpu() for name, value in average.items()}


def _step(
    net: nn.Module,
    optimiser: torch.optim.AdamW,
    batch: Any,
    loss: Callable[[nn.Module, Any], Terms],
    device: torch.device,
) -> Terms:
    """One step; the terms stay on the device, so that it is not waited for."""
    batch = type(batch)(*(plane.to(device, non_blocking=True) for plane in batch))
    batch = batch._replace(rgb=batch.rgb.contiguous(memory_format=_layout(device)))
    with torch.autocast(device.type, torch.bfloat16):
        terms = loss(net, batch)
    optimiser.zero_grad(set_to_none=True)
    sum(terms.values(), torch.zeros((), device=device)).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimiser.step()
    return {name: value.detach() for name, value in terms.items()}


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
