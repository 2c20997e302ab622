"""The configuration of a fine-tuning run, read from a small TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt


class PlannerConfig(BaseModel):
    """A fine-tuning run.

    Attributes:
        base: a folder with a Llama-class model and its tokenizer, or `embedded`.
        start: adapter to go on from, a path relative to `models/planner`; none to start anew.
        start_share: how much of `start` stays in what ships, 0..1: a mean of both adapters' weights
            keeps what a short run forgets (after Wortsman et al., CVPR 2022).
        licence: of the resulting adapter, for its card.
        seed: of the adapter's first values and of every example: pack n is a function of the two.
        written: the share of the examples that were written one by one, 0..1.
        steps: optimiser steps in all. The rate is constant until `decay` of them are left, so that
            a run may be resumed with another total until then.
        warmup: steps of linear warm-up.
        decay: last steps, in which the rate falls to zero.
        packs: packs a step on each device.
        pack_tokens: examples are packed until they have so many tokens, without padding.
        rate: AdamW's learning rate.
        rank, alpha: of the LoRA matrices, on every linear layer.
        first_layer: layers below keep the adapter that they start with; they cost no backward pass.
        quantised: hold the base's weights in 4-bit NF4 (QLoRA, Dettmers et al. 2023).
        sharded: shard over the devices by FSDP; start the command with `torchrun`.
        checkpoint_every: steps between checkpoints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    start: str | None = None
    start_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    licence: str
    seed: int
    written: Annotated[float, Field(ge=0, le=1)] = 0.0
    steps: PositiveInt
    warmup: NonNegativeInt
    decay: NonNegativeInt
    packs: PositiveInt
    pack_tokens: PositiveInt
    rate: PositiveFloat
    rank: PositiveInt
    alpha: PositiveInt
    first_layer: NonNegativeInt = 0
    quantised: bool = False
    sharded: bool = False
    checkpoint_every: PositiveInt

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate the TOML file at `path`."""
        return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
