"""`sam` with a small network of SAM's own architecture, saved as upstream saves its checkpoints."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from segment_anything import sam_model_registry
from segment_anything.build_sam import _build_sam

from models.backend import BackendInfo, Image, Region, RegionBackend
from models.external.config import SamEntry, file_sha256
from models.external.sam import SamRegions, best, deepest, prompt

PART = np.zeros((200, 300), bool)
PART[60:140, 80:200] = True


class Coarse:
    """Says that the structure is where `mask` is."""

    info = BackendInfo("coarse", "7", "CC0-1.0", {"coarse.bin": "0" * 64})

    def __init__(self, mask):
        self.regions = {"gland": None, "stroma": None}
        self.mask = mask

    def region(self, image, concept):
        return Region(self.mask, 0.9, f"coarse {concept}")


def small(checkpoint=None):
    """SAM with an encoder of two narrow layers; all else as upstream builds it."""
    return _build_sam(16, 2, 1, [1], checkpoint)


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b.pth"
    torch.manual_seed(0)
    torch.save(small().state_dict(), path)
    return SamEntry(checkpoint=path, sha256=file_sha256(path), model_type="vit_b", device="cpu")


@pytest.fixture
def backend(entry, monkeypatch):
    monkeypatch.setitem(sam_model_registry, "vit_b", small)
    return SamRegions(entry, Coarse(PART))


@pytest.fixture
def encodings(backend, monkeypatch):
    """One entry for each time that the encoder runs; the encodings themselves are empty."""
    runs = []

    def encode(x):
        runs.append(tuple(x.shape))
        return torch.zeros(1, 256, 64, 64)

    monkeypatch.setattr(backend._predictor.model.image_encoder, "forward", encode)
    return runs


@pytest.fixture(scope="module")
def image():
    return Image(np.random.default_rng(0).integers(0, 255, (*PART.shape, 3), np.uint8), 0.5)


def test_it_is_a_region_backend_of_the_others_vocabulary(backend, entry):
    assert isinstance(backend, RegionBackend)
    assert backend.regions == {"gland": None, "stroma": None}
    assert backend.info.name == "sam"
    assert "coarse 7" in backend.info.version
    assert backend.info.licence == "Apache-2.0; CC0-1.0"
    assert backend.info.weights == {"coarse.bin": "0" * 64, "sam_vit_b.pth": entry.sha256}


def test_the_checkpoints_weights_are_the_networks(backend, entry):
    stored = torch.load(entry.checkpoint, weights_only=True)
    loaded = backend._predictor.model.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_a_checkpoint_of_another_architecture_does_not_load(entry, monkeypatch):
    monkeypatch.setitem(
        sam_model_registry, "vit_b", lambda checkpoint: _build_sam(32, 2, 1, [1], checkpoint)
    )
    with pytest.raises(RuntimeError, match="size mismatch"):
        SamRegions(entry, Coarse(PART))


def test_an_untrained_network_agrees_with_nothing_and_changes_nothing(backend, image):
    found = backend.region(image, "gland")
    assert np.array_equal(found.mask, PART)
    assert found.present == 0.9
    assert found.method == "coarse gland; edges by Segment Anything (vit_b) on 0 of 1 parts"


def test_the_network_decides_the_edges_where_it_agrees(backend, image, encodings, monkeypatch):
    other = np.zeros(PART.shape, bool)
    other[0:10, 0:10] = True
    edge = ndimage.binary_erosion(PART, iterations=5)
    asked = []

    def predict(points, labels, box):
        asked.append((points, labels, box))
        return np.stack([other, edge, np.ones_like(edge)]), None, None

    monkeypatch.setattr(backend._predictor, "predict", predict)
    found = backend.region(image, "gland")
    assert np.array_equal(found.mask, edge)
    assert found.method.endswith("on 1 of 1 parts")
    (points, labels, box) = asked[0]
    assert box.tolist() == [80, 60, 199, 139]
    rows, columns = points.astype(int)[:, ::-1].T
    assert (PART[rows, columns] == (labels == 1)).all()


def test_an_image_is_encoded_once(backend, image, encodings):
    backend.region(image, "gland")
    assert encodings == [(1, 3, 1024, 1024)]
    backend.region(Image(255 - image.rgb, 0.5), "gland")
    backend.region(image, "stroma")
    assert len(encodings) == 2


def test_nothing_and_everything_need_no_network(entry, image, monkeypatch):
    monkeypatch.setitem(sam_model_registry, "vit_b", small)
    for mask in (np.zeros_like(PART), np.ones_like(PART)):
        backend = SamRegions(entry, Coarse(mask))
        monkeypatch.setattr(backend._predictor, "set_image", None)
        assert np.array_equal(backend.region(image, "gland").mask, mask)


def test_a_large_image_is_seen_in_tiles_that_leave_no_seam(entry, monkeypatch):
    monkeypatch.setitem(sam_model_registry, "vit_b", small)
    mask = np.zeros((900, 1300), bool)
    mask[100:800, 200:1200] = True
    backend = SamRegions(entry, Coarse(mask))
    sizes = []

    def look(image, window):
        sizes.append(mask[window].shape)
        backend.window = mask[window]

    monkeypatch.setattr(backend, "_look", look)
    monkeypatch.setattr(backend, "_ask", lambda asked: ndimage.binary_erosion(backend.window)[None])
    found = backend.region(Image(np.zeros((900, 1300, 3), np.uint8)), "gland")
    inner = ndimage.binary_erosion(mask)
    assert np.array_equal(found.mask, inner)
    assert len(sizes) == 4
    assert max(max(size) for size in sizes) <= 1024


@given(mask=arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24))))
def test_prompts_point_where_they_say(mask):
    labels, count = ndimage.label(mask)
    for number in range(1, count + 1):
        part = labels == number
        asked = prompt(part, mask)
        columns, rows = asked.points.astype(int).T
        assert part[rows[asked.labels == 1], columns[asked.labels == 1]].all()
        assert not mask[rows[asked.labels == 0], columns[asked.labels == 0]].any()
        assert (asked.labels == 1).any()
        y, x = np.nonzero(part)
        assert asked.box.tolist() == [x.min(), y.min(), x.max(), y.max()]


def test_the_deepest_points_lie_in_the_middle_and_apart():
    mask = np.zeros((40, 100), bool)
    mask[5:35, 5:35] = mask[10:30, 70:90] = True
    (first, second) = deepest(mask, 2)
    assert np.hypot(first[0] - 19.5, first[1] - 19.5) < 1.5
    assert np.hypot(second[0] - 19.5, second[1] - 79.5) < 1.5
    assert deepest(np.zeros((5, 5), bool), 3) == []


def test_the_best_candidate_has_to_agree():
    eroded = ndimage.binary_erosion(PART, iterations=3)
    assert best(np.stack([~PART, eroded]), PART) is not None
    assert best(np.stack([~PART, np.ones_like(PART)]), PART) is None
