"""Reading the shipped weights: safetensors files next to a figures file and a card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from models.backend import BackendInfo, Quality
from models.planner.fetch import file_sha256
from models.vision.net import Ensemble

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the shipped weights; each `NAME.safetensors` has its card, `NAME.md`."""


@dataclass(frozen=True)
class Weights:
    """A weights file's content.

    Attributes:
        tensors: name to tensor; half precision on disk comes back as float32.
        settings: what the training run chose and inference needs (the file's metadata).
        file: file name.
        sha256: of the file, 64 hex digits.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, str]
    file: str
    sha256: str

    def info(self, name: str, version: str) -> BackendInfo:
        """Who answers with these weights: a change of code (`version`) or of weights shows."""
        return BackendInfo(
            name=name,
            version=f"{version}+{self.sha256[:12]}",
            licence=self.settings["licence"],
            weights={self.file: self.sha256},
        )


def read_weights(path: Path) -> Weights:
    """Read a safetensors file; nothing is fetched from anywhere.

    Raises:
        FileNotFoundError: there is no such file.
    """
    digest = file_sha256(path)
    with safe_open(path, framework="pt") as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        settings = dict(handle.metadata() or {})
    whole = {
        name: value.float() if value.dtype == torch.float16 else value
        for name, value in tensors.items()
    }
    return Weights(whole, settings, path.name, digest)


N = TypeVar("N", bound=nn.Module)


def ready(net: N, tensors: dict[str, Tensor], device: str = "") -> N:
    """`net` with these weights, in evaluation mode, channels last.

    Args:
        net: of the weights' architecture.
        tensors: its state.
        device: as torch names it; by default CUDA where there is one, else the CPU.
    """
    net.load_state_dict(tensors)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    net.eval().to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def ensemble(member: Callable[[], nn.Module], read: Weights, device: str = "") -> Ensemble:
    """The networks of a file that holds several, as `ready` gives one; `member` makes one."""
    members = range(int(read.settings["members"]))
    return ready(Ensemble(member() for _ in members), read.tensors, device)


def read_figures(path: Path) -> dict[str, Quality]:
    """Concept to measured quality from `NAME.json` beside the weights file `path`.

    The file is written by `python -m models.train figures` from the output of an
    evaluation's `--json`; without it nothing is known, and the answer is empty. Figures
    that were measured on other weights than these are left out.
    """
    figures = path.with_suffix(".json")
    if not figures.exists():
        return {}
    record = json.loads(figures.read_text(encoding="utf-8"))
    if record["sha256"] != file_sha256(path):
        return {}
    return {name: Quality(**quality) for name, quality in record["quality"].items()}


def inference_dtype(device: torch.device) -> torch.dtype:
    """Bfloat16 where the device computes in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
