"""`python -m models.planner.train.outline`: train the network that tells a plan's outline."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import rnn

from models.planner.fetch import file_sha256
from models.planner.generate import examples
from models.planner.outline import Outline
from models.planner.outliner import BUCKETS, Opinion, OutlineNet, Outliner, classes, tokens
from models.planner.serialise import TEMPLATE, thread_text
from models.planner.train.means import mean

_BATCH = 128
_ALIKE = 8  # tokens by which the lengths of a batch's threads differ, at the most
_WARMUP = 200
_SAID = 200
_DRAWN = 200
_HELD_BACK = 2000

Case = tuple[list[list[int]], list[int]]
"""The tokens of a thread and the classes of its plan's outline, as `outliner` has both."""


def draw(seed: int, written: float = 0.0) -> Iterator[Case]:
    """Threads and their plans' outlines, without end, as a function of `seed`.

    `written` is the share of them that were written one by one.
    """
    for part in itertools.count():
        for case in examples(hash((seed, part)), _DRAWN, written=written):
            start = 1 + sum(len(turn.calls) for turn in case.history)
            thread = thread_text(case.history, case.instruction)
            yield tokens(thread, start), classes(Outline.of(case.plan, start))


def surprise(net: OutlineNet, cases: Sequence[Case]) -> Tensor:
    """Mean negative log likelihood of the outlines of `cases`, nats."""
    truth = [torch.tensor(own) for _, own in cases]
    written = rnn.pad_sequence(truth, batch_first=True)
    return -net.likelihoods(net.read([own for own, _ in cases]), written).mean()


def batches(cases: Sequence[Case]) -> list[list[Case]]:
    """`cases` in a new order, in batches of about one length."""
    order = [cases[i] for i in torch.randperm(len(cases)).tolist()]
    order.sort(key=lambda case: len(case[0]) // _ALIKE)
    cut = [order[at : at + _BATCH] for at in range(0, len(order), _BATCH)]
    return [cut[i] for i in torch.randperm(len(cut)).tolist()]


def fit(
    cases: Sequence[Case], epochs: int, rate: float, seed: int, start: Path | None = None
) -> OutlineNet:
    """Train a network on `cases`: Adam, its rate rising at first and then falling to zero.

    Args:
        cases: to learn from.
        epochs: times that each is seen.
        rate: the highest learning rate.
        seed: of the order, and of the first weights.
        start: weights to go on from instead.
    """
    torch.manual_seed(seed)
    net = Outliner(start).net.train() if start else OutlineNet()
    dense = [value for name, value in net.named_parameters() if name != "words.weight"]
    optimisers: tuple[torch.optim.Optimizer, ...] = (
        torch.optim.SparseAdam([net.words.weight], rate),
        torch.optim.Adam(dense, rate),
    )
    steps = epochs * -(-len(cases) // _BATCH)
    losses = list[float]()
    for batch in itertools.chain.from_iterable(batches(cases) for _ in range(epochs)):
        done = len(losses)
        for optimiser in optimisers:
            warm = min(1.0, (done + 1) / min(_WARMUP, steps / 10))
            optimiser.param_groups[0]["lr"] = rate * warm * (1 - done / steps)
            optimiser.zero_grad()
        loss = surprise(net, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(dense, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(loss.item())
        if len(losses) % _SAID == 0 or len(losses) == steps:
            own = losses[-_SAID:]
            print(f"step {len(losses)} of {steps}: {sum(own) / len(own):.3f} nats", flush=True)
    return net.eval()


def right(net: OutlineNet, cases: Sequence[Case]) -> float:
    """The share of `cases` whose outline is the one that the network finds the likeliest."""
    same = 0
    for own, truth in cases:
        found = Opinion(net, net.read([own])).best(lambda _: True)
        same += [classes(best) for best, _ in found] == [truth]
    return same / len(cases)


def main(
    out: Annotated[Path, typer.Option(file_okay=False, help="For the weights and their card.")],
    count: Annotated[int, typer.Option(min=1, help="Examples to learn from.")] = 150_000,
    epochs: Annotated[int, typer.Option(min=1)] = 2,
    rate: Annotated[float, typer.Option(help="Adam's learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Of the examples and the first weights.")] = 1,
    written: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the examples written one by one.")
    ] = 0.0,
    start: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Weights to go on from.")
    ] = None,
    start_share: Annotated[
        float, typer.Option(min=0, max=1, help="How much of these stays in what is written.")
    ] = 0.0,
) -> None:
    """Train the network that tells a plan's outline; minutes on one core."""
    out.mkdir(parents=True, exist_ok=True)
    held_back = list(itertools.islice(draw(~seed), _HELD_BACK))
    seen = list(itertools.islice(draw(seed, written), count))
    net = fit(seen, epochs, rate, seed, start)
    if start:
        began = Outliner(start).net.state_dict()
        net.load_state_dict(mean(net.state_dict(), began, start_share))
    with torch.inference_mode():
        loss, share = float(surprise(net, held_back)), right(net, held_back)
    path = out / "outline.safetensors"
    run = f"--count {count} --epochs {epochs} --rate {rate:g} --seed {seed}"
    run += f" --written {written:g}" if written else ""
    runs = [run]
    if start:
        kept = f" --start-share {start_share:g}" if start_share else ""
        runs = [*_runs(start), f"{run} --start WEIGHTS{kept}"]
    metadata = {"licence": "Apache-2.0", "runs": "\n".join(runs)}
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, path, metadata)
    path.chmod(0o644)
    result = f"the whole outline of {share:.1%} right, at {loss:.3f} nats"
    path.with_suffix(".md").write_text(_card(path, runs, result), encoding="utf-8")
    print(path)


def _runs(weights: Path) -> list[str]:
    """The options of the runs that made `weights`, as far as it notes them."""
    with safe_open(weights, "pt") as file:
        noted = (file.metadata() or {}).get("runs")
    return noted.splitlines() if noted else [f"from SHA-256 {file_sha256(weights)[:12]}"]


def _card(path: Path, runs: Sequence[str], result: str) -> str:
    steps = "\n".join(f"    {run}" for run in runs)
    return f"""# Outline network

| | |
| --- | --- |
| file | `outline.safetensors`, SHA-256 `{file_sha256(path)}` |
| what | words hashed to {BUCKETS:,} buckets, two GRUs with attention, float16 |
| licence | Apache-2.0 |
| input and output | a thread in the form of `serialise.py` (`{TEMPLATE}`); see `outline.py` |

## Training
By Adam, its rate falling to zero in each run; {_BATCH} examples of `models.planner.generate` a
step, a share of them written one by one. Of {_HELD_BACK:,} others, none of them so, it has
{result}.

## Measured
With and without it and the other second opinions: `eval/LOG.md`.

## Retrain
`python -m models.planner.train.outline --out DIR` with each of these in turn, `WEIGHTS` being what
the one before made:

{steps}

## Limits
It reads the last 96 words of a thread. Alone it plans nothing:
`agent/planners/second.py` says what its opinion is good for.
"""


if __name__ == "__main__":
    typer.run(main)
