"""The base model with the adapter in its weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from models.planner.llama import Llama

LORA_SCALE = 48 / 24
"""The adapter's alpha over its rank; see `adapter.md`."""


def load_model(base: Path, adapter: Path | None) -> Llama:
    """The base model in bfloat16 on the CPU, with the LoRA `adapter` merged into its weights.

    Args:
        base: a folder written by `models.planner.base.convert`.
        adapter: safetensors in peft's key names, or None for the bare base model.

    Raises:
        ValueError: the adapter has a weight that the base model has no place for.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    return Llama(config, merged_weights(base, adapter))


def merged_weights(base: Path, adapter: Path | None) -> dict[str, Tensor]:
    """The weights of `load_model` by their names in transformers."""
    weights = load_file(base / "model.safetensors")
    if adapter is None:
        return weights
    with safe_open(adapter, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - a safe_open handle is not a mapping
            stem, is_down, _ = key.partition(".lora_A.weight")
            if not is_down:
                continue
            name = stem.removeprefix("base_model.model.") + ".weight"
            if name not in weights:
                raise ValueError(f"{adapter.name} does not fit the base model: {key}")
            down, up = file.get_tensor(key), file.get_tensor(f"{stem}.lora_B.weight")
            change = (up.float() @ down.float()) * LORA_SCALE
            weights[name] = (weights[name].float() + change).to(torch.bfloat16)
    return weights
