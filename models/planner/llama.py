"""The embedded model's forward pass: a Llama of bfloat16 weights on the CPU.

A pass reads all weights once, whether for one token or for eight. transformers' general code takes
longer for it, and seconds to import; what is computed here is the same (Touvron et al.,
arXiv:2302.13971; grouped queries: Ainslie et al., EMNLP 2023) for the one base that is pinned by
its digest: tied embeddings, SiLU, rotary angles without scaling. The tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, silu

_ROOM = 256
"""Tokens that a memory has room for at first."""


@dataclass
class Memory:
    """What a model has read.

    Attributes:
        values: keys and values, (2, layers, key heads, room, head).
        length: tokens that count; a smaller one forgets the last of them.
    """

    values: Tensor
    length: int = 0

    def copy(self) -> Memory:
        """Another memory of the same text."""
        return Memory(self.values.clone(), self.length)

    def make_room(self, length: int) -> None:
        """Make room for `length` tokens in all."""
        *before, room, head = self.values.shape
        if room < length:
            more = self.values.new_empty((*before, length, head))
            self.values = torch.cat([self.values, more], 3)


@dataclass(frozen=True)
class _Layer:
    """One layer's weights; what reads the same input is one matrix."""

    before: Tensor
    query_key_value: Tensor
    out: Tensor
    between: Tensor
    gate_up: Tensor
    down: Tensor


class Llama:
    """The model. Keeps no state; several threads may share one."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Take the `config.json` and the tensors of a transformers folder, embeddings tied."""
        self._heads = config["num_attention_heads"]
        self._key_heads = config["num_key_value_heads"]
        self._head = config["hidden_size"] // self._heads
        self._epsilon = config["rms_norm_eps"]
        self._words = weights["model.embed_tokens.weight"]
        self._last = weights["model.norm.weight"]
        self._layers = [_layer(weights, n) for n in range(config["num_hidden_layers"])]
        steps = torch.arange(0, self._head, 2, dtype=torch.float) / self._head
        self._turns = 1.0 / config["rope_parameters"]["rope_theta"] ** steps

    def memory(self) -> Memory:
        """An empty memory."""
        shape = (2, len(self._layers), self._key_heads, _ROOM, self._head)
        return Memory(torch.empty(shape, dtype=self._words.dtype))

    def read(self, ids: Sequence[int], memory: Memory, keep: int = 1) -> Tensor:
        """Read `ids` after what `memory` holds, into it.

        Returns:
            Logits (keep, vocabulary), float32, after each of the last `keep` of them.
        """
        return self._logits(self._read([ids], memory)[-keep:])

    def read_each(self, texts: Sequence[Sequence[int]], memory: Memory) -> list[Tensor]:
        """Logits after each token of each of `texts`, all read in one pass, which is forgotten."""
        read = memory.length
        states = self._read(texts, memory)
        memory.length = read
        return list(self._logits(states).split([len(text) for text in texts]))

    def _read(self, texts: Sequence[Sequence[int]], memory: Memory) -> Tensor:
        """The last layer's output (n, width) for `texts`, none of which sees another."""
        start, lengths = memory.length, [len(text) for text in texts]
        end = start + sum(lengths)
        memory.make_room(end)
        place = torch.cat([torch.arange(start, start + length) for length in lengths])
        angles = place.float()[:, None] * self._turns
        cos = angles.cos().to(self._words.dtype).repeat(1, 2)
        sin = angles.sin().to(self._words.dtype)
        turn = cos[:, None], torch.cat((-sin, sin), 1)[:, None]
        own = torch.block_diag(*(torch.ones(length, length).tril() for length in lengths)).bool()
        mask = torch.cat([own.new_ones(len(place), start), own], 1)
        x = self._words[torch.tensor([token for text in texts for token in text])]
        for layer, kept in zip(self._layers, memory.values.unbind(1), strict=True):
            both = linear(self._norm(x, layer.before), layer.query_key_value)
            x = x + linear(self._attend(both, kept, (start, end), turn, mask), layer.out)
            gate, up = linear(self._norm(x, layer.between), layer.gate_up).chunk(2, -1)
            x = x + linear(silu(gate) * up, layer.down)
        memory.length = end
        return x

    def _logits(self, states: Tensor) -> Tensor:
        return linear(self._norm(states, self._last), self._words).float()

    def _attend(
        self,
        both: Tensor,
        kept: Tensor,
        span: tuple[int, int],
        turn: tuple[Tensor, Tensor],
        mask: Tensor,
    ) -> Tensor:
        """Attention (n, width) of queries, keys and values `both` (n, …); keeps the latter two."""
        start, end = span
        parts = both.view(len(both), -1, self._head)
        turned, values = parts[:, : -self._key_heads], parts[:, -self._key_heads :]
        one, other = turned.chunk(2, -1)
        turned = turned * turn[0] + torch.cat((other, one), -1) * turn[1]
        kept[0, :, start:end] = turned[:, self._heads :].transpose(0, 1)
        kept[1, :, start:end] = values.transpose(0, 1)
        seen = scaled_dot_product_attention(
            turned[None, :, : self._heads].transpose(1, 2),
            kept[None, 0, :, :end],
            kept[None, 1, :, :end],
            attn_mask=mask if len(both) > 1 else None,
            enable_gqa=True,
        )
        return seen[0].transpose(0, 1).flatten(1)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._epsilon)
        return weight * (wide * scale).to(x.dtype)


def _layer(weights: Mapping[str, Tensor], number: int) -> _Layer:
    def joined(*names: str) -> Tensor:
        return torch.cat([weights[f"model.layers.{number}.{name}.weight"] for name in names])

    return _Layer(
        before=joined("input_layernorm"),
        query_key_value=joined(*(f"self_attn.{part}_proj" for part in "qkv")),
        out=joined("self_attn.o_proj"),
        between=joined("post_attention_layernorm"),
        gate_up=joined("mlp.gate_proj", "mlp.up_proj"),
        down=joined("mlp.down_proj"),
    )
