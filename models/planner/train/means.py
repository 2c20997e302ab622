"""A mean of two runs' weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def mean(
    weights: Mapping[str, Tensor], start: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """`weights` with `share` (0..1) of those that the run went on from.

    It keeps what a short run forgets (after Wortsman et al., CVPR 2022).
    """
    return {name: own.lerp(start[name].to(own), share) for name, own in weights.items()}
