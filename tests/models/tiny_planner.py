"""A tiny random model of the planner's architecture, in the file format that the planner reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from tokenizers import pre_tokenizers

from models.planner.base import convert

WIDTH, HEADS, KV_HEADS, LAYERS, FEED = 32, 4, 2, 2, 48


def tiny_base(root: Path) -> Path:
    """`root/base`, converted from `root/tiny.gguf`."""
    write_tiny_gguf(root / "tiny.gguf")
    (root / "base").mkdir()
    convert(root / "tiny.gguf", root / "base")
    return root / "base"


def write_tiny_gguf(path: Path, seed: int = 0) -> None:
    """A random Llama of two layers with a byte-level vocabulary and a few merges."""
    merges = ["s e", "se g", "c o", "co u", "Ġ seg", "Ġ cou"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    special = len(tokens)
    tokens += sorted(pre_tokenizers.ByteLevel.alphabet()) + [m.replace(" ", "") for m in merges]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * special + [1] * (len(tokens) - special))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (len(tokens), WIDTH),
        "output_norm": (WIDTH,),
    }
    for layer in range(LAYERS):
        key_rows = WIDTH // HEADS * KV_HEADS
        shapes |= {
            f"blk.{layer}.attn_norm": (WIDTH,),
            f"blk.{layer}.attn_q": (WIDTH, WIDTH),
            f"blk.{layer}.attn_k": (key_rows, WIDTH),
            f"blk.{layer}.attn_v": (key_rows, WIDTH),
            f"blk.{layer}.attn_output": (WIDTH, WIDTH),
            f"blk.{layer}.ffn_norm": (WIDTH,),
            f"blk.{layer}.ffn_gate": (FEED, WIDTH),
            f"blk.{layer}.ffn_up": (FEED, WIDTH),
            f"blk.{layer}.ffn_down": (WIDTH, FEED),
        }
    random = np.random.default_rng(seed)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.4, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
