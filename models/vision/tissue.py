"""Organ by a linear discriminant on frozen features; it abstains rather than guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from models.backend import Image, Tissue
from models.vision.features import pooled, views
from models.vision.net import fold_norms, plain_encoder
from models.vision.weights import WEIGHTS, read_weights

Encode = Callable[[Tensor], npt.NDArray[np.float32]]
"""Pictures (B, 3, S, S), 0..1, to features (B, D)."""
_SHOWN = 5
_LEAST_SIDE = 64


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def _shipped(tensors: dict[str, Tensor]) -> Encode:
    """EfficientNet-Lite0 from the tensors under `encoder.`."""
    prefix = "encoder."
    encoder = fold_norms(plain_encoder())
    encoder.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    return partial(pooled, encoder.eval())


class ProbeTissue:
    """A `TissueBackend`.

    It says an organ only where its calibrated probability passes a threshold that was chosen on
    sources and organs left out of its training, so that a user who names the right organ is seldom
    contradicted. An organ that it never saw is mostly, not always, met with an abstention.

    Attributes:
        info: name, licence, checksum of the weights.
        organs: what it was taught.
        threshold: probability from which it names an organ.
    """

    def __init__(
        self, weights: Path = WEIGHTS / "tissue.safetensors", encode: Encode | None = None
    ) -> None:
        """Load a file of `python -m models.train tissue`.

        Args:
            weights: the probe, and its encoder where it is the shipped kind.
            encode: the encoder that the probe was trained on, where it is another one.
        """
        read = read_weights(weights)
        self._encode = encode or _shipped(read.tensors)
        self._mean, self._spread, self._weight, self._bias = (
            read.tensors[name].double().numpy() for name in ("mean", "spread", "weight", "bias")
        )
        self.organs: tuple[str, ...] = tuple(json.loads(read.settings["organs"]))
        self.threshold = float(read.settings["threshold"])
        self._temperature = float(read.settings["temperature"])
        self.info = read.info("probe", "1")

    def tissue(self, image: Image) -> Tissue:
        """Name the organ, or abstain."""
        if min(image.shape) < _LEAST_SIDE:
            return Tissue(None, 0.0, (), f"an image under {_LEAST_SIDE} px a side says too little")
        features = (self._encode(views(image.rgb)) - self._mean) / self._spread
        logits = (features @ self._weight + self._bias).mean(axis=0)
        probability = softmax(logits / self._temperature)
        order = np.argsort(-probability)
        ranked = tuple((self.organs[i], float(probability[i])) for i in order[:_SHOWN])
        best, share = ranked[0]
        if share >= self.threshold:
            return Tissue(best, share, ranked, "linear discriminant on pooled features")
        note = f"not sure enough to name an organ: {best} at {share:.2f} under {self.threshold:.2f}"
        return Tissue(None, share, ranked, note)
