"""The card of an adapter, written by the run that made it."""

from __future__ import annotations

from models.planner.fetch import REQUIREMENT
from models.planner.serialise import TEMPLATE
from models.planner.train.config import PlannerConfig


def card(config: PlannerConfig, digest: str, start: str | None, tokens: int, loss: float) -> str:
    """The card, as Markdown.

    Args:
        config: of the run.
        digest: SHA-256 of the adapter.
        start: SHA-256 of the adapter that the run went on from, or None.
        tokens: read in training, prompts included.
        loss: mean cross-entropy a token of the plans in the last steps, nats.
    """
    base = config.base if config.base != "embedded" else f"SmolLM2-135M-Instruct ({REQUIREMENT})"
    began = f"the adapter with SHA-256 `{start}`" if start else "nothing: new LoRA matrices"
    if config.start_share:
        began += f"; what ships is the mean\nof both, with {config.start_share:g} of that one"
    frozen = (
        f" Layers below {config.first_layer} keep what it held there." if config.first_layer else ""
    )
    return f"""# Planner adapter

| | |
| --- | --- |
| file | `adapter.safetensors`, SHA-256 `{digest}` |
| what | LoRA, rank {config.rank}, alpha {config.alpha}, every linear layer, float16 |
| base | {base} |
| licence | {config.licence} |
| input and output | text in the form of `serialise.py` (`{TEMPLATE}`): a thread in, a plan out |

## Training
It went on from {began}.{frozen}
Data: `models.planner.generate`, seed {config.seed}. {config.written:.0%} of it are threads of
`dialogues/`, told of other structures where they can be; no other comes twice. Words and plans are
the project's own (Apache-2.0); no instruction of `eval/cases` is taught.
{config.steps} steps of {config.packs} rows of about {config.pack_tokens} tokens, {tokens:,} tokens
in all; AdamW at {config.rate:g}, {config.warmup} steps of warm-up, the last {config.decay} towards
zero; loss on the plan of every turn of a thread (of `dialogues/`, on the last one's alone), at the
end {loss:.4f} nats a token.

## Retrain
`python -m models.planner.train --config CONFIG --out DIR` with the values above; run again, it goes
on from the newest checkpoint. `llama-70b.toml` is the same for a 70B model on GPUs.

## Limits
Greedy decoding under the grammar of `grammar.py` makes every plan valid: known tools, fitting
references. Valid is not right. It reads Latin script, knows nothing of the image, has no medical
knowledge to answer from, and is not a medical device.
"""
