"""Training of the region networks, and of those that measure them on sources left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.train.areas import (
    FOLDS,
    UNKNOWN,
    YES,
    Area,
    Batches,
    Sample,
    fold_of,
    kept_back,
    read_areas,
)
from models.train.config import RegionConfig
from models.train.finish_regions import concept_texts, look, region_card, write_weights
from models.train.loop import Terms, adapted_encoder, fit
from models.vision.net import Ensemble
from models.vision.regions import RegionNet
from models.vision.weights import WEIGHTS, read_weights

_FROZEN = ("conv_stem.", "blocks.0.", "blocks.1.")  # half of the time, little of the knowledge
_LEAST_TISSUE = 200
_SHARE_WEIGHT = 0.5


def region_loss(logits: Tensor, batch: Sample) -> Terms:
    """The loss's terms, each a scalar: `pixel`, `overlap`, `share`.

    `pixel` is the cross entropy over the pixels of which something is known, every concept of every
    crop alike; `overlap` is one minus the soft Dice of a concept over the batch; `share` raises
    the most likely pixels of a tile, as many as its class promises.

    Args:
        logits: (B, K, H, W).
        batch: with labels of the same height and width.
    """
    known = (batch.label != UNKNOWN).float()
    truth = (batch.label == YES).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    count = known.sum((2, 3))
    mean = (entropy * known).sum((2, 3)) / count.clamp_min(1)
    pixel = mean.sum() / (count > 0).sum().clamp_min(1)
    held = truth.sum((0, 2, 3))
    guess = logits.sigmoid() * known
    both = (guess * truth).sum((0, 2, 3))
    dice = (2 * both + 1) / (guess.sum((0, 2, 3)) + held + 1)
    overlap = ((1 - dice) * (held > 0)).sum() / (held > 0).sum().clamp_min(1)
    return {"pixel": pixel, "overlap": overlap, "share": _SHARE_WEIGHT * _share(logits, batch)}


def _share(logits: Tensor, batch: Sample) -> Tensor:
    terms = []
    for crop, concept in batch.share.nonzero().tolist():
        own = logits[crop, concept][batch.tissue[crop, 0]]
        if len(own) >= _LEAST_TISSUE:
            top = own.topk(max(1, int(float(batch.share[crop, concept]) * len(own)))).values
            terms.append(functional.softplus(-top).mean())
    return torch.stack(terms).mean() if terms else logits.sum() * 0


def _loss(net: nn.Module, batch: Sample) -> Terms:
    return region_loss(net(batch.rgb, batch.text), batch)


def _first_encoder(config: RegionConfig, batches: Batches) -> dict[str, Tensor]:
    if not config.encoder:
        return adapted_encoder(batches).state_dict()
    tensors = read_weights(WEIGHTS / config.encoder).tensors
    prefix = "encoder."
    return {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}


def train(
    areas: Sequence[Area],
    config: RegionConfig,
    steps: int,
    out: Path,
    start: RegionNet | None = None,
) -> RegionNet:
    """Train a network on `areas`, or go on from `out` with `.ckpt`.

    Args:
        areas: to train on.
        config: of the run.
        steps: in all.
        out: path of the checkpoint and log, without suffix.
        start: begin with its weights instead of the encoder that `config` names.

    Returns:
        The network with averaged weights, in evaluation mode, on the CPU.
    """
    batches = Batches(areas, config, steps)
    torch.manual_seed(config.seed)
    net = RegionNet()
    for name, parameter in net.encoder.named_parameters():
        parameter.requires_grad_(not name.startswith(_FROZEN))
    if start:
        net.load_state_dict(start.state_dict())
    elif not out.with_suffix(".ckpt").exists():
        net.encoder.load_state_dict(_first_encoder(config, batches))
    state = fit(net, batches, steps, _loss, config, out)
    result = RegionNet()
    result.load_state_dict(state)
    return result.eval()


def _whole(areas: Sequence[Area], config: RegionConfig, out: Path, start: RegionNet) -> RegionNet:
    """A member of what ships, which goes on from a fold's network."""
    net = train(areas, config, config.steps, out, start)
    if config.last:
        last = config.ending(config.last)
        net = train(areas, last, last.steps, out)
    return net


def run(data: Path, config: RegionConfig, out: Path) -> None:
    """Train the two ensembles that are measured and the one that is shipped; write them to `out`.

    `fold-0.safetensors` and `fold-1.safetensors` were each trained without that fold's sources,
    their prompts chosen on those of the other; `regions.safetensors` comes with its card.
    """
    areas = read_areas(data, config)
    text = concept_texts(config.concepts)
    members = [(own, out / f"member-{i}") for i, own in enumerate(config.members())]
    for _, at in members:
        at.mkdir(parents=True, exist_ok=True)
    folds, held = [], []
    for fold in FOLDS:
        seen = [area for area in areas if fold_of(area, areas, config) != fold]
        unseen = [area for area in areas if fold_of(area, areas, config) == fold]
        print(f"fold {fold}: {len(seen)} images to train on, {len(unseen)} left out", flush=True)
        nets = [train(seen, own, own.fold_steps, at / f"fold-{fold}") for own, at in members]
        folds.append(nets)
        held.append(look(Ensemble(nets), unseen, text))
    for fold, nets in zip(FOLDS, folds, strict=True):
        other = held[1 - fold]
        sources = [name for name, source in config.sources.items() if source.fold != fold]
        path = out / f"fold-{fold}.safetensors"
        write_weights(Ensemble(nets), other, other, sources, config, path)
    seen = [area for area in areas if not kept_back(area, areas, config)]
    ensemble = Ensemble(
        _whole(seen, own, at / "regions", start)
        for (own, at), start in zip(members, folds[0], strict=True)
    )
    left_out = held[0] + held[1]
    back = look(ensemble, [area for area in areas if kept_back(area, areas, config)], text)
    path = out / "regions.safetensors"
    prompts = write_weights(ensemble, left_out, back, list(config.sources), config, path)
    size = sum(p.numel() for p in ensemble.parameters())
    card = region_card(seen, left_out, back, prompts, config, size)
    path.with_suffix(".md").write_text(card, encoding="utf-8")
