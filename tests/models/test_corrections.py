"""Corrections as training data: what can't be trusted is refused."""

import gzip
import json

import numpy as np
import pytest

from models.backend import array_digest
from models.train.corrections import FILE, read_corrected


def kept(folder, array: np.ndarray) -> str:
    digest = array_digest(array)
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / f"{digest}.npy.gz", "wb") as file:
        np.lib.format.write_array(file, array)
    return digest


@pytest.fixture
def trace(tmp_path):
    """A trace's folder with one correction: instance 2 of 3 is none."""
    labels = np.repeat(np.arange(4, dtype=np.int32), 4).reshape(4, 4)
    line = {
        "format": 1,
        "image": kept(tmp_path / "blobs", np.full((4, 4, 3), 9, np.uint8)),
        "labels": kept(tmp_path / "blobs", labels),
        "mpp": None,
        "instance": 2,
        "centre": [1.5, 2.0],
        "type": None,
        "verdict": "wrong",
    }
    (tmp_path / FILE).write_text(json.dumps(line) + "\n")
    return tmp_path


def test_the_last_word_on_a_nucleus_holds(trace) -> None:
    (read,) = read_corrected(trace)
    assert (set(np.unique(read.labels)), read.types) == ({0, 1, 3}, {})
    line = json.loads((trace / FILE).read_text())
    with (trace / FILE).open("a") as file:
        file.write(json.dumps({**line, "verdict": "right type", "type": "neuron"}) + "\n")
    (read,) = read_corrected(trace)
    assert (set(np.unique(read.labels)), read.types) == ({0, 1, 2, 3}, {2: "neuron"})
    assert len(read.wrong) == len(read.missed) == 0


@pytest.mark.parametrize("change", [{"format": 2}, {"verdict": "maybe"}, {"image": "0" * 64}])
def test_what_is_no_correction_is_refused(trace, change) -> None:
    line = json.loads((trace / FILE).read_text())
    (trace / FILE).write_text(json.dumps({**line, **change}) + "\n")
    with pytest.raises((ValueError, FileNotFoundError)):
        list(read_corrected(trace))


def test_a_changed_array_is_refused(trace) -> None:
    line = json.loads((trace / FILE).read_text())
    path = trace / "blobs" / f"{line['labels']}.npy.gz"
    with gzip.open(path, "wb") as file:
        np.lib.format.write_array(file, np.zeros((4, 4), np.int32))
    with pytest.raises(ValueError, match="was changed"):
        list(read_corrected(trace))
