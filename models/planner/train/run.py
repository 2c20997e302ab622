"""The run: model, adapter, transformers' Trainer, and the adapter in the form that ships."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from models.planner.base import converted_base
from models.planner.fetch import file_sha256
from models.planner.tokens import PlanTokenizer
from models.planner.train.card import card
from models.planner.train.config import PlannerConfig
from models.planner.train.means import mean
from models.planner.train.packs import Encode, Packs, one

EMBEDDED = "embedded"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_PLANNER = Path(__file__).parents[1]


def train(config: PlannerConfig, out: Path) -> Path:
    """Fine-tune, or go on from the newest checkpoint in `out`; returns the adapter's path."""
    folder = converted_base() if config.base == EMBEDDED else Path(config.base)
    trainer = Trainer(
        model=adapted(folder, config),
        args=arguments(config, out),
        train_dataset=Packs(
            config.seed,
            config.steps * config.packs * PartialState().num_processes,
            config.pack_tokens,
            encoder(folder, config),
            config.written,
        ),
        data_collator=one,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)) is not None)
    return ship(trainer, config, out)


def encoder(folder: Path, config: PlannerConfig) -> Encode:
    """How the base reads a thread: its own chat form, with the plan as the assistant's turn."""
    if config.base == EMBEDDED:
        return PlanTokenizer(folder / "tokenizer.json").example
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(thread: str, plan: str) -> tuple[list[int], list[bool]]:
        asked = [{"role": "user", "content": thread}]
        prompt = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        written = [*tokenizer.encode(plan, add_special_tokens=False), tokenizer.eos_token_id]
        return [*prompt, *written], [False] * len(prompt) + [True] * len(written)

    return encode


def adapted(folder: Path, config: PlannerConfig) -> Any:
    """The base model with its LoRA matrices, those of `start` where there is one."""
    base = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        quantization_config=_four_bit() if config.quantised else None,
        device_map={"": PartialState().local_process_index} if torch.cuda.is_available() else None,
        # On a CPU the plain attention is the faster one by a factor for rows of this length.
        attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
    )
    lora = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=LINEAR, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, lora)
    if config.start:
        set_peft_model_state_dict(model, load_file(_PLANNER / config.start))
    frozen = tuple(f".layers.{layer}." for layer in range(config.first_layer))
    for name, weight in model.named_parameters():
        if any(part in name for part in frozen):
            weight.requires_grad_(False)
    return model


def _four_bit() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_storage=torch.bfloat16,  # FSDP shards one type alike
    )


def _workers() -> int:
    """Processes that draw examples: a GPU is faster than one; on a CPU the other cores train."""
    cores = (os.cpu_count() or 1) // PartialState().num_processes
    return max(1, min(8, cores - 1)) if torch.cuda.is_available() else 0


def arguments(config: PlannerConfig, out: Path) -> TrainingArguments:
    """The Trainer's settings for this machine and `config`."""
    return TrainingArguments(
        output_dir=str(out),
        max_steps=config.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=config.packs,
        learning_rate=config.rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": config.decay, "min_lr_ratio": 0.0},
        warmup_steps=config.warmup,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=True,
        dataloader_num_workers=_workers(),
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        data_seed=config.seed,
        save_steps=config.checkpoint_every,
        save_total_limit=2,
        logging_steps=min(5, config.steps),
        include_num_input_tokens_seen="all",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        fsdp=config.sharded or None,  # type: ignore[arg-type]  # its type lags behind its docs
        fsdp_config={"activation_checkpointing": True} if config.sharded else None,
    )


def ship(trainer: Trainer, config: PlannerConfig, out: Path) -> Path:
    """Write `out/peft` for servers, and `out/adapter.safetensors` in half precision with a card."""
    trainer.save_model(str(out / "peft"))  # gathers what is sharded
    target = out / "adapter.safetensors"
    if trainer.is_world_process_zero():
        weights = load_file(out / "peft" / "adapter_model.safetensors")
        if config.start:
            began = load_file(_PLANNER / config.start)
            weights = mean(weights, began, config.start_share)
        metadata = {"licence": config.licence, "seed": str(config.seed), "steps": str(config.steps)}
        save_file({name: value.half() for name, value in weights.items()}, target, metadata)
        start = file_sha256(_PLANNER / config.start) if config.start else None
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        tokens = int(trainer.state.num_input_tokens_seen)
        target.chmod(0o644)
        text = card(config, file_sha256(target), start, tokens, losses[-1])
        (out / "adapter.md").write_text(text, encoding="utf-8")
    return target
