"""Nucleus sets as fields: image, flows, inside mask and types, ready to be cropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cellpose.dynamics import masks_to_flows_gpu
from PIL import Image as Pillow
from skimage.segmentation import relabel_sequential

from models.train.config import NucleiConfig, Source
from models.vision.net import KINDS

UNTYPED = 255
"""Type of a pixel outside nuclei or of a nucleus without a type."""
_FLOW_UNIT = 127  # flows are kept as int8


@dataclass(frozen=True)
class Field:
    """An annotated image at its own resolution.

    Attributes:
        source: the set's folder name.
        stem: the image's file stem.
        mpp: µm/px.
        rgb: uint8 (H, W, 3).
        labels: int32 (H, W), 0 background, 1..n instances.
        flow: int8 (2, H, W), unit vectors (dy, dx) times 127, zero outside.
        kinds: uint8 (H, W), index into `KINDS` or `UNTYPED`.
    """

    source: str
    stem: str
    mpp: float
    rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    flow: npt.NDArray[np.int8]
    kinds: npt.NDArray[np.uint8]


def flows_of(labels: npt.NDArray[np.int32], cache: Path) -> npt.NDArray[np.int8]:
    """Cellpose flows of `labels` as int8 (2, H, W), kept in the `.npy` file `cache`."""
    if cache.exists():
        cached: npt.NDArray[np.int8] = np.load(cache)
        return cached
    flow = masks_to_flows_gpu(labels)[0]
    packed: npt.NDArray[np.int8] = np.round(flow * _FLOW_UNIT).astype(np.int8)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, packed)
    return packed


def unpack_flow(flow: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """Flows as float32 unit vectors."""
    return flow.astype(np.float32) / np.float32(_FLOW_UNIT)


def _kinds(labels: npt.NDArray[np.int32], classes: dict[str, int]) -> npt.NDArray[np.uint8]:
    table = np.full(int(labels.max()) + 1, UNTYPED, np.uint8)
    for label, cls in classes.items():
        if 1 <= cls <= len(KINDS):
            table[int(label)] = cls - 1
    table[0] = UNTYPED
    kinds: npt.NDArray[np.uint8] = table[labels]
    return kinds


def read_set(folder: Path, name: str, source: Source, cache: Path) -> Iterator[Field]:
    """The fields of one set, by file name.

    Args:
        folder: holds `images/*.jpg|png` and `labels/*.png` of the same stems, and, where the set
            is typed, `classes.json`.
        name: of the set.
        source: its description.
        cache: folder for the flows.
    """
    classes: dict[str, dict[str, int]] = {}
    if source.typed:
        classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))["instances"]
    for path in sorted((folder / "images").iterdir()):
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        raw = np.asarray(Pillow.open(folder / "labels" / f"{path.stem}.png")).astype(np.int32)
        kinds = _kinds(raw, classes.get(path.stem, {}))
        labels = relabel_sequential(raw)[0].astype(np.int32)
        flow = flows_of(labels, cache / name / f"{path.stem}.npy")
        mpp = source.mpp_of.get(path.stem, source.mpp)
        yield Field(name, path.stem, mpp, rgb, labels, flow, kinds)


def read_fields(data: Path, config: NucleiConfig, cache: Path) -> tuple[list[Field], list[Field]]:
    """Training and validation fields of a run.

    Args:
        data: folder that holds `nuclei/train/<source>`.
        config: names the sources and the hold-out rule.
        cache: folder for the flows.

    Returns:
        Fields to train on, fields held out.
    """
    train: list[Field] = []
    held: list[Field] = []
    for name, source in config.sources.items():
        fields = read_set(data / "nuclei" / "train" / name, name, source, cache)
        for index, field in enumerate(fields):
            out = name in config.holdout_sources and index % config.holdout == config.holdout - 1
            (held if out else train).append(field)
    return train, held
