"""Where this process computes: torch's device and threads, without importing torch for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_GPU_NODES = ("/dev/nvidiactl", "/dev/dxg")
"""Files without which CUDA is not there, on Linux and in its Windows subsystem."""


def device() -> str:
    """The device that torch takes here; torch is not imported where it is clear."""
    impossible = sys.platform == "linux" and not any(Path(node).exists() for node in _GPU_NODES)
    if impossible and "torch" not in sys.modules:
        return "cpu"
    import torch

    return f"cuda {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cpu"


def threads() -> int:
    """Torch's threads; before it is imported, those that OpenMP will give it."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else os.cpu_count() or 1
