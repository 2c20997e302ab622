"""The base model with the adapter in its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import LlamaForCausalLM
from transformers.utils import logging as transformers_logging

LORA_SCALE = 48 / 24
"""The adapter's alpha over its rank; see `adapter.md`."""


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def load_model(base: Path, adapter: Path | None) -> LlamaForCausalLM:
    """The base model in bfloat16 on the CPU, with the LoRA `adapter` merged into its weights.

    Args:
        base: a folder written by `models.planner.base.convert`.
        adapter: safetensors in peft's key names, or None for the bare base model.

    Raises:
        ValueError: the adapter has a weight that the base model has no place for.
    """
    with _no_progress_bar():
        model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    if adapter is not None:
        _merge(model, adapter)
    model.eval().requires_grad_(False)
    return model


def _merge(model: LlamaForCausalLM, adapter: Path) -> None:
    weights = dict(model.named_parameters())
    with safe_open(adapter, "pt") as file, torch.no_grad():
        for key in file.keys():  # noqa: SIM118 - a safe_open handle is not a mapping
            stem, is_down, _ = key.partition(".lora_A.weight")
            if not is_down:
                continue
            name = stem.removeprefix("base_model.model.") + ".weight"
            if name not in weights:
                raise ValueError(f"{adapter.name} does not fit the base model: {key}")
            down, up = file.get_tensor(key), file.get_tensor(f"{stem}.lora_B.weight")
            change = (up.float() @ down.float()) * LORA_SCALE
            weights[name].copy_(weights[name].float() + change)
