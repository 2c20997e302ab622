"""`python -m models.planner.train.outline`: train the network that tells a plan's outline."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from models.planner.fetch import file_sha256
from models.planner.generate import examples
from models.planner.outline import Outline
from models.planner.outliner import SIZES, OutlineNet, features
from models.planner.serialise import TEMPLATE, thread_text

_BATCH = 128
_DRAWN = 200
_HELD_BACK = 2000

Case = tuple[list[int], list[int]]
"""The features of a thread and the classes of its plan's outline."""


def draw(seed: int) -> Iterator[Case]:
    """Generated threads and their plans' outlines, without end, as a function of `seed`."""
    for part in itertools.count():
        for case in examples(hash((seed, part)), _DRAWN):
            classes = Outline.of(case.plan).classes()
            yield features(thread_text(case.history, case.instruction)), classes


def collate(cases: list[Case]) -> tuple[Tensor, Tensor, Tensor]:
    """Buckets and starts as `OutlineNet` takes them, and the classes, (B, attributes)."""
    lengths = torch.tensor([0, *(len(buckets) for buckets, _ in cases)])
    buckets = torch.tensor([bucket for own, _ in cases for bucket in own])
    return buckets, lengths.cumsum(0)[:-1], torch.tensor([classes for _, classes in cases])


def surprise(net: OutlineNet, cases: list[Case]) -> Tensor:
    """Mean negative log likelihood of the outlines of `cases`, nats."""
    buckets, starts, classes = collate(cases)
    terms = zip(net(buckets, starts), classes.T, strict=True)
    return torch.stack([functional.cross_entropy(logits, own) for logits, own in terms]).sum()


def fit(cases: list[Case], epochs: int, rate: float, seed: int) -> OutlineNet:
    """Train a network on `cases`: Adam, its rate falling to zero."""
    torch.manual_seed(seed)
    net = OutlineNet()
    dense = [value for name, value in net.named_parameters() if name != "bag.weight"]
    optimisers: tuple[torch.optim.Optimizer, ...] = (
        torch.optim.SparseAdam([net.bag.weight], rate),
        torch.optim.Adam(dense, rate),
    )
    steps = epochs * -(-len(cases) // _BATCH)
    done, losses = 0, list[float]()
    for epoch in range(epochs):
        order = torch.randperm(len(cases)).tolist()
        for at in range(0, len(cases), _BATCH):
            for optimiser in optimisers:
                optimiser.param_groups[0]["lr"] = rate * (1 - done / steps)
                optimiser.zero_grad()
            loss = surprise(net, [cases[i] for i in order[at : at + _BATCH]])
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            losses.append(loss.item())
            done += 1
        print(f"epoch {epoch + 1}: {sum(losses) / len(losses):.3f} nats", flush=True)
        losses.clear()
    return net.eval()


def right(net: OutlineNet, cases: list[Case]) -> float:
    """The share of `cases` whose outline has every attribute right."""
    buckets, starts, classes = collate(cases)
    with torch.inference_mode():
        guessed = torch.stack([logits.argmax(1) for logits in net(buckets, starts)], dim=1)
    return float((guessed == classes).all(1).float().mean())


def main(
    out: Annotated[Path, typer.Option(file_okay=False, help="For the weights and their card.")],
    count: Annotated[int, typer.Option(min=1, help="Examples to learn from.")] = 300_000,
    epochs: Annotated[int, typer.Option(min=1)] = 4,
    rate: Annotated[float, typer.Option(help="Adam's learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Of the examples and the first weights.")] = 1,
) -> None:
    """Train the network that tells a plan's outline; minutes on one core."""
    out.mkdir(parents=True, exist_ok=True)
    cases = list(itertools.islice(draw(seed), count + _HELD_BACK))
    held_back, seen = cases[:_HELD_BACK], cases[_HELD_BACK:]
    net = fit(seen, epochs, rate, seed)
    with torch.inference_mode():
        loss = float(surprise(net, held_back))
    path = out / "outline.safetensors"
    metadata = {"licence": "Apache-2.0", "seed": str(seed), "examples": str(count)}
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, path, metadata)
    path.chmod(0o644)
    text = f"""# Outline network

| | |
| --- | --- |
| file | `outline.safetensors`, SHA-256 `{file_sha256(path)}` |
| what | bag of word n-grams in {net.bag.num_embeddings:,} buckets, {net.bag.embedding_dim} numbers
each, a hidden layer, {len(SIZES)} attributes of a plan's outline; float16 |
| licence | Apache-2.0 |
| input and output | a thread in the form of `serialise.py` (`{TEMPLATE}`); see `outline.py` |

## Training
{count:,} examples of `models.planner.generate`, seed {seed}, {epochs} times over; Adam at {rate:g},
falling to zero; {_BATCH} examples a step. Of {_HELD_BACK:,} held back it has the whole outline of
{right(net, held_back):.1%} right, at {loss:.3f} nats.

## Retrain
`python -m models.planner.train.outline --out DIR --count {count} --epochs {epochs} --rate {rate:g}
--seed {seed}`

## Limits
It sees words, not sentences, and of earlier turns only which tools ran. Alone it plans nothing:
`agent/planners/second.py` says what its opinion is good for.
"""
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    typer.run(main)
