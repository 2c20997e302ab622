"""`python -m models.planner.train.means`: the mean of several runs' weights.

Runs that went on from the same weights, on other examples, are better together than each alone
(after Wortsman et al., "Model soups", ICML 2022).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.planner.fetch import file_sha256

_FILES = ("adapter.safetensors", "outline.safetensors")
_TOLD = ("Training", "Retrain")
"""Sections of a card that say what is another run's own."""


def mean(
    weights: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """`weights` with `share` (0..1) of `other`'s.

    A share of those that a run went on from keeps what a short run forgets (after Wortsman et al.,
    CVPR 2022).
    """
    return {name: own.lerp(other[name].to(own), share) for name, own in weights.items()}


def main(
    runs: Annotated[
        list[Path], typer.Argument(exists=True, file_okay=False, help="Folders of the runs.")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="For the weights and their card.")],
) -> None:
    """Write the mean of the adapters, or of the outline networks, of several runs."""
    name = next((name for name in _FILES if all((run / name).is_file() for run in runs)), None)
    if name is None or out.resolve() in [run.resolve() for run in runs]:
        raise typer.BadParameter(f"each RUN holds {' or '.join(_FILES)}, and --out is none of them")
    files = [run / name for run in runs]
    weights: dict[str, Tensor] = {}
    for number, file in enumerate(files, 1):
        own = {key: value.float() for key, value in load_file(file).items()}
        if weights and _shapes(own) != _shapes(weights):
            raise typer.BadParameter(f"{file} holds other matrices than {files[0]}")
        weights = mean(weights, own, 1 / number) if weights else own
    cards = [file.with_suffix(".md").read_text(encoding="utf-8") for file in files]
    out.mkdir(parents=True, exist_ok=True)
    path = out / name
    with safe_open(files[0], "pt") as first:
        metadata = {"licence": (first.metadata() or {}).get("licence", "not stated")}
    metadata["mean"] = ", ".join(f"SHA-256 {file_sha256(file)[:12]}" for file in files)
    save_file({key: value.half().contiguous() for key, value in weights.items()}, path, metadata)
    path.chmod(0o644)
    path.with_suffix(".md").write_text(_card(cards, file_sha256(path)), encoding="utf-8")
    print(path)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def _card(cards: Sequence[str], digest: str) -> str:
    """The first card, with the file's own digest, and what each run's says of its training."""
    text = re.sub(r"SHA-256 `[0-9a-f]{64}`", f"SHA-256 `{digest}`", cards[0], count=1)
    for title in _TOLD:
        section = re.compile(rf"(?<=^## {title}\n).*?(?=\n\n## )", re.MULTILINE | re.DOTALL)
        told = [own for card in cards for own in section.findall(card)]
        if len(set(told)) > 1:
            said = "\n\n".join(f"### Run {number}\n{own}" for number, own in enumerate(told, 1))
            made = "The mean of the weights of these runs (`python -m models.planner.train.means`)."
            text = text.replace(told[0], f"{made}\n\n{said}", 1)
    return text


if __name__ == "__main__":
    typer.run(main)
