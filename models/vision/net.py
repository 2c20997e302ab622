"""The nucleus network: EfficientNet-Lite0 encoder, a light U-Net decoder, flow and type heads.

It sees H&E at about `WORKING_MPP` and predicts, at the same resolution, Cellpose flows (Stringer et
al., Nature Methods 2021), the logit of being inside a nucleus, and logits of the nucleus type.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

WORKING_MPP = 0.4
"""µm/px that training crops are centred on, between 20x and 40x: what two CPU cores allow. The
resolution of inference is chosen after training and comes with the weights."""
ASSUMED_MPP = 0.25
"""µm/px that nuclei are looked at with where nobody knows an image's pixel size."""
STRIDE = 32
"""Height and width of the input are multiples of this, in px."""
FLOW_SCALE = 5.0
"""Flows are unit vectors times this, as `cellpose.dynamics` expects them."""
KINDS = ("other cell", "inflammatory cell", "epithelial cell", "spindle cell")
"""Nucleus types, in the order of the type logits (CoNSeP's classes 1 to 4)."""

_ENCODER = "tf_efficientnet_lite0"
_SKIPS = (112, 40, 24, 16)  # encoder channels at strides 16, 8, 4, 2
_WIDTHS = (96, 64, 48, 32)  # decoder channels at the same strides
_TOP = 320
_FINE = 16
_HEAD = 24


class Dense(NamedTuple):
    """Per-pixel predictions, all (B, C, H, W) of the input's H and W.

    Attributes:
        flow: C = 2, (dy, dx) times `FLOW_SCALE`, pointing to the nucleus's centre.
        inside: C = 1, logit of lying inside a nucleus.
        kind: C = len(KINDS), logits of the type, meaningful inside nuclei.
    """

    flow: Tensor
    inside: Tensor
    kind: Tensor


class _Conv(nn.Sequential):
    """3x3 convolution, batch norm, ReLU6."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        )


def plain_encoder() -> nn.Module:
    """EfficientNet-Lite0 as a feature pyramid (strides 2 to 32), batch norms and all, untrained."""
    return timm.create_model(_ENCODER, features_only=True, pretrained=False)


@torch.no_grad()
def fold_norms(encoder: nn.Module) -> nn.Module:
    """Fold each batch norm of `plain_encoder` into the convolution before it, in place.

    With fixed statistics a batch norm is a scale and a shift; folded, training and inference skip
    it, which on a CPU is a third of the time.
    """
    convolution: nn.Conv2d | None = None
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                convolution = child
            elif isinstance(child, nn.BatchNorm2d):
                if convolution is None or child.running_var is None or child.running_mean is None:
                    raise ValueError(f"no convolution to fold {name} into")
                scale = child.weight / torch.sqrt(child.running_var + child.eps)
                convolution.weight.mul_(scale[:, None, None, None])
                convolution.bias = nn.Parameter(child.bias - child.running_mean * scale)
                setattr(parent, name, getattr(child, "act", nn.Identity()))
    return encoder


class Ensemble(nn.Module):
    """The mean of what networks give that were trained differently."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Tensor) -> Tensor:
        """As each member's."""
        return torch.stack([member(*inputs) for member in self.members]).mean(dim=0)


class FlowNet(nn.Module):
    """RGB at about `WORKING_MPP` to `Dense`; (B, 3, H, W) float, 0..1, H and W by `STRIDE`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = fold_norms(plain_encoder())
        self.top = nn.Sequential(nn.Conv2d(_TOP, 128, 1, bias=False), nn.BatchNorm2d(128))
        inputs = (128, *_WIDTHS[:-1])
        self.decoder = nn.ModuleList(
            _Conv(deep + skip, out) for deep, skip, out in zip(inputs, _SKIPS, _WIDTHS, strict=True)
        )
        self.fine = nn.Sequential(nn.Conv2d(3, _FINE, 3, padding=1), nn.ReLU6(inplace=True))
        self.dense = nn.Sequential(_Conv(_WIDTHS[-1] + _FINE, _HEAD), nn.Conv2d(_HEAD, 3, 1))
        self.kind = nn.Sequential(
            _Conv(_WIDTHS[-1], _WIDTHS[-1]), nn.Conv2d(_WIDTHS[-1], len(KINDS), 1)
        )

    def forward(self, rgb: Tensor) -> Dense:
        """Predict flows, inside logits and type logits at the input's resolution."""
        x = (rgb - 0.5) / 0.5  # the encoder's ImageNet weights expect -1..1
        features = self.encoder(x)
        y = self.top(features[-1])
        for block, skip in zip(self.decoder, features[-2::-1], strict=True):
            y = block(torch.cat([functional.interpolate(y, scale_factor=2.0), skip], dim=1))
        full = functional.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        out = self.dense(torch.cat([full, self.fine(x)], dim=1))
        kind = functional.interpolate(
            self.kind(y), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        return Dense(out[:, :2], out[:, 2:3], kind)
