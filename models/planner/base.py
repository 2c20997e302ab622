"""The planner's base model in the form that loads fast: converted once, cached, keyed by hash.

A GGUF file takes tens of seconds to read and dequantise in Python. It is done once: the weights
go to the cache as bfloat16 safetensors with the model's config and tokenizer, in a folder named
by the GGUF's hash.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from models.planner.fetch import (
    GGUF_SHA256,
    BaseModelMissing,
    cache_dir,
    converted_folder,
    ensure_base,
    file_sha256,
)

_CONTROL = 3
"""GGUF's token type for special tokens."""


def converted_base(*, fetch: bool = False) -> Path:
    """The folder with `model.safetensors` (bfloat16), `config.json` and `tokenizer.json`.

    The first call on a machine converts the GGUF; later ones only look. The folder appears whole
    or not at all, also where two processes convert at the same time.

    Raises:
        BaseModelMissing: see `models.planner.fetch.ensure_base`; also where the GGUF that was
            found is not the pinned file, or the cache can't be written.
    """
    folder = converted_folder()
    if folder.is_dir():
        return folder
    try:
        gguf = ensure_base(fetch=fetch)
        if file_sha256(gguf) != GGUF_SHA256:
            raise BaseModelMissing(f"{gguf} is damaged or another version: delete it, pull again")
        _convert_into(gguf, folder)
    except OSError as error:
        raise BaseModelMissing(
            f"the planner's cache {cache_dir()} can't be used ({error.strerror or error}): "
            f"set HISTOPILOT_CACHE to a folder that can be written"
        ) from error
    return folder


def _convert_into(gguf: Path, folder: Path) -> None:
    """Convert beside `folder` and rename, so that `folder` appears whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="converting-"))
    try:
        convert(gguf, scratch)
        scratch.chmod(0o755)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same result
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def convert(gguf: Path, folder: Path) -> None:
    """Write a Llama-architecture GGUF as a transformers model folder in bfloat16.

    Args:
        gguf: the file; its tensors are dequantised to float32, then rounded to bfloat16.
        folder: existing; gets `model.safetensors`, `config.json`, `tokenizer.json`.
    """
    reader = GGUFReader(gguf)
    config = _config(reader)
    save_file(_weights(reader, config), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    _tokenizer(reader).save(str(folder / "tokenizer.json"))


def _field(reader: GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()


def _config(reader: GGUFReader) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": _field(reader, "llama.embedding_length"),
        "intermediate_size": _field(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _field(reader, "llama.block_count"),
        "num_attention_heads": _field(reader, "llama.attention.head_count"),
        "num_key_value_heads": _field(reader, "llama.attention.head_count_kv"),
        "max_position_embeddings": _field(reader, "llama.context_length"),
        "rms_norm_eps": _field(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": _field(reader, "llama.rope.freq_base"),
        },
        "vocab_size": _field(reader, "llama.vocab_size"),
        "tie_word_embeddings": True,
        "bos_token_id": _field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _field(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _field(reader, "tokenizer.ggml.padding_token_id"),
    }


_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _name(gguf_name: str) -> str:
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf_name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = gguf_name.split(".")
    return f"model.layers.{layer}.{_PARTS[part]}.weight"


def _weights(reader: GGUFReader, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    heads = {
        "attn_q": config["num_attention_heads"],
        "attn_k": config["num_key_value_heads"],
    }
    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        values = np.asarray(dequantize(tensor.data, tensor.tensor_type))
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = _to_half_rotation(values, heads[part])
        weights[_name(tensor.name)] = torch.tensor(values).to(torch.bfloat16)
    return weights


def _to_half_rotation(rows: Any, heads: int) -> Any:
    """Undo llama.cpp's row order of query and key weights.

    llama.cpp rotates neighbouring pairs of a head's rows, transformers a head's two halves.
    """
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _tokenizer(reader: GGUFReader) -> Tokenizer:
    tokens = _field(reader, "tokenizer.ggml.tokens")
    kinds = _field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in _field(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    # As SmolLM2 was trained: single digits, then byte-level pieces ("smollm" in GGUF's terms).
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer
