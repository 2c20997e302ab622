"""What users of the demo corrected, as training data.

A folder of it is a trace with `corrections.jsonl` beside its events: `blobs/DIGEST.npy.gz` are its
arrays, by SHA-256 over dtype, shape and bytes. A line is one correction:

| key | what |
| --- | --- |
| `format` | 1 |
| `time` | when, ISO 8601, UTC |
| `image` | digest of the pixels that were looked at, uint8 (H, W, 3) |
| `mpp` | µm/px of these pixels, null where unknown |
| `call` | the call whose nuclei are corrected, `"$n"` |
| `labels` | digest of its label map, (H, W), 0 background, 1..n instances |
| `instance` | the label of the corrected nucleus, null for one that was missed |
| `centre` | x, y in px: its centroid, or where the user saw the missed one |
| `type` | what it is, a cell of the ontology; null where it is none |
| `verdict` | `wrong` (is no nucleus), `right type` (is of this type) or `missed` |

Of several corrections of one nucleus the last holds.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.backend import array_digest

FILE = "corrections.jsonl"
FORMAT = 1
VERDICTS = ("wrong", "right type", "missed")


@dataclass(frozen=True)
class Corrected:
    """An image whose nuclei a user looked at, in part: what has no verdict is not confirmed.

    Attributes:
        digest: of the image; fields of one image share it, so keep them on one side of a split.
        mpp: µm/px, None where unknown.
        rgb: uint8 (H, W, 3).
        labels: int32 (H, W), 0 background, 1..n instances; without those that are wrong.
        types: type by label, of the instances that the user named.
        wrong: centres of what is no nucleus, float (n, 2), x and y in px.
        missed: centres of nuclei without an outline, float (n, 2), x and y in px.
        missed_types: the type of each of `missed`.
    """

    digest: str
    mpp: float | None
    rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    types: dict[int, str]
    wrong: npt.NDArray[np.float64]
    missed: npt.NDArray[np.float64]
    missed_types: tuple[str, ...]


def read_corrected(root: Path) -> Iterator[Corrected]:
    """The corrected images below `root`, by folder; one each for an image and a label map.

    Raises:
        ValueError: a line is not of this format, or an array is not what its digest says.
        FileNotFoundError: an array is not there: copy the trace whole.
    """
    for path in sorted(root.rglob(FILE)):
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            line = json.loads(text)
            if line.get("format") != FORMAT or line.get("verdict") not in VERDICTS:
                raise ValueError(f"{path}, line {number}: not a correction of format {FORMAT}")
            groups.setdefault((line["image"], line["labels"]), []).append(line)
        for (image, labels), lines in groups.items():
            blobs = path.parent / "blobs"
            yield _applied(lines, _array(blobs, image), _array(blobs, labels))


def _applied(
    lines: list[dict[str, Any]], rgb: npt.NDArray[Any], raw: npt.NDArray[Any]
) -> Corrected:
    labels = raw.astype(np.int32)
    last = {line["instance"]: line for line in lines if line["verdict"] != "missed"}
    wrong = [line for line in last.values() if line["verdict"] == "wrong"]
    missed = {tuple(line["centre"]): line for line in lines if line["verdict"] == "missed"}
    labels[np.isin(labels, [line["instance"] for line in wrong])] = 0
    return Corrected(
        lines[0]["image"],
        lines[0]["mpp"],
        rgb,
        labels,
        {label: line["type"] for label, line in last.items() if line["verdict"] == "right type"},
        np.array([line["centre"] for line in wrong], np.float64).reshape(-1, 2),
        np.array(list(missed), np.float64).reshape(-1, 2),
        tuple(line["type"] for line in missed.values()),
    )


def _array(blobs: Path, digest: str) -> npt.NDArray[Any]:
    with gzip.open(blobs / f"{digest}.npy.gz", "rb") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if array_digest(array) != digest:
        raise ValueError(f"the array {digest} was changed after it was written")
    return array
