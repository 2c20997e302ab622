"""The trained backends on real pixels, with the shipped weights; nothing is fetched."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file

from models.backend import ALL_NUCLEI, Image, NucleiBackend, TissueBackend, array_digest
from models.vision import nuclei as module
from models.vision.net import FlowNet
from models.vision.nuclei import FlowNuclei
from models.vision.tissue import ProbeTissue
from models.vision.weights import WEIGHTS, read_figures, read_weights

SKIN = Path(__file__).parents[1] / "data" / "skin-256.png"
SKIN_MPP = 0.5


@pytest.fixture(scope="module")
def skin_patch():
    return Image(np.asarray(Pillow.open(SKIN).convert("RGB")), SKIN_MPP)


@pytest.fixture(scope="module")
def backend():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", None)  # loading must not touch the network
        return FlowNuclei(device="cpu")


@pytest.fixture(scope="module")
def organ():
    return ProbeTissue()


def test_it_finds_the_nuclei_of_skin(backend, skin_patch):
    answer = backend.nuclei(skin_patch, ALL_NUCLEI)
    n = int(answer.labels.max())
    assert answer.labels.shape == skin_patch.shape
    assert answer.labels.dtype == np.int32
    assert set(np.unique(answer.labels)) == set(range(n + 1))
    assert len(answer.kinds) == len(answer.confidence) == n > 10
    assert 0.5 < answer.present <= 1
    dark = skin_patch.rgb.mean(axis=2)
    assert dark[answer.labels > 0].mean() < dark[answer.labels == 0].mean() - 20


def test_the_same_image_gives_the_same_answer(backend, skin_patch):
    first = backend.nuclei(skin_patch, ALL_NUCLEI)
    again = FlowNuclei(device="cpu").nuclei(skin_patch, ALL_NUCLEI)
    assert array_digest(first.labels) == array_digest(again.labels)
    assert first.kinds == again.kinds


def test_types_partition_the_nuclei_and_a_second_prompt_predicts_nothing(
    backend, skin_patch, monkeypatch
):
    everything = backend.nuclei(skin_patch, ALL_NUCLEI)
    monkeypatch.setattr(module, "predict", None)
    total = sum(kind == ALL_NUCLEI for kind in everything.kinds)
    for concept in ("inflammatory cell", "epithelial cell", "spindle cell"):
        some = backend.nuclei(skin_patch, concept)
        assert set(some.kinds) <= {concept}
        assert (everything.labels[some.labels > 0] > 0).all()
        assert int(some.labels.max()) == len(some.kinds) == everything.kinds.count(concept)
        total += len(some.kinds)
    assert total == len(everything.kinds)


def test_lymphocytes_are_the_inflammatory_cells_and_it_says_so(backend, skin_patch):
    lymphocytes = backend.nuclei(skin_patch, "lymphocyte")
    inflammatory = backend.nuclei(skin_patch, "inflammatory cell")
    assert np.array_equal(lymphocytes.labels, inflammatory.labels)
    assert "not told apart" in lymphocytes.method
    assert "not told apart" not in inflammatory.method


def test_fibroblasts_are_the_spindle_cells_and_it_says_so(backend, skin_patch):
    fibroblasts = backend.nuclei(skin_patch, "fibroblast")
    spindle = backend.nuclei(skin_patch, "spindle cell")
    assert np.array_equal(fibroblasts.labels, spindle.labels)
    assert "not told apart" in fibroblasts.method
    assert set(fibroblasts.kinds) <= {"spindle cell"}


def test_tumor_cells_are_not_guessed_from_epithelial_ones(backend):
    assert not {"neoplastic cell", "neutrophil", "plasma cell", "normal cell"} & set(backend.cells)


def test_a_concept_that_it_was_not_taught_is_an_error(backend, skin_patch):
    assert "mitotic figure" not in backend.cells
    with pytest.raises(KeyError):
        backend.nuclei(skin_patch, "mitotic figure")


def test_blank_glass_has_no_nuclei(backend):
    answer = backend.nuclei(Image(np.full((200, 150, 3), 240, np.uint8), 0.5), ALL_NUCLEI)
    assert not answer.labels.any()
    assert answer.kinds == ()
    assert answer.present == 0


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (33, 31)])
@pytest.mark.parametrize("mpp", [0.2, None, 5.0])
def test_any_size_and_scale_is_answered(backend, shape, mpp):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    answer = backend.nuclei(Image(rgb, mpp), ALL_NUCLEI)
    assert answer.labels.shape == shape
    assert int(answer.labels.max()) == len(answer.kinds)


def test_it_says_what_it_assumed_about_the_resolution(backend, skin_patch):
    small = np.ascontiguousarray(skin_patch.rgb[:64, :64])
    assert "unknown" in backend.nuclei(Image(small, None), ALL_NUCLEI).method
    assert "outside" in backend.nuclei(Image(small, 2.0), ALL_NUCLEI).method
    assert "outside" not in backend.nuclei(Image(small, 0.25), ALL_NUCLEI).method


def test_the_count_hardly_depends_on_the_resolution(backend, skin_patch):
    count = len(backend.nuclei(skin_patch, ALL_NUCLEI).kinds)
    size = (skin_patch.shape[1] * 2, skin_patch.shape[0] * 2)
    large = np.asarray(Pillow.fromarray(skin_patch.rgb).resize(size, Pillow.Resampling.BICUBIC))
    finer = backend.nuclei(Image(large, SKIN_MPP / 2), ALL_NUCLEI)
    assert finer.labels.shape == large.shape[:2]
    assert len(finer.kinds) == pytest.approx(count, rel=0.15)


def test_tiles_give_nearly_the_instances_of_the_whole(backend, skin_patch, monkeypatch):
    whole = backend.nuclei(skin_patch, ALL_NUCLEI).labels
    monkeypatch.setattr(module, "_CORE", 128)
    monkeypatch.setattr(module, "_MARGIN", 32)
    tiled = FlowNuclei(device="cpu").nuclei(skin_patch, ALL_NUCLEI).labels
    assert int(tiled.max()) == pytest.approx(int(whole.max()), rel=0.1)
    both, either = ((whole > 0) & (tiled > 0)).sum(), ((whole > 0) | (tiled > 0)).sum()
    assert both / either > 0.9


def test_only_a_few_images_are_kept(backend):
    for value in range(module._KEPT + 3):
        rgb = np.full((32, 32, 3), 100 + value, np.uint8)
        backend.nuclei(Image(rgb, 0.5), ALL_NUCLEI)
    assert len(backend._memory._held) == module._KEPT


def test_the_info_pins_the_weights(backend, organ):
    for loaded, file in ((backend, "nuclei.safetensors"), (organ, "tissue.safetensors")):
        assert list(loaded.info.weights) == [file]
        sha = read_weights(WEIGHTS / file).sha256
        assert loaded.info.weights[file] == sha
        assert sha.startswith(loaded.info.version.split("+")[1])
        assert "licence" in (WEIGHTS / file).with_suffix(".md").read_text().lower()
    assert isinstance(backend, NucleiBackend)
    assert isinstance(organ, TissueBackend)


def test_figures_of_other_weights_are_not_claimed(tmp_path):
    path = tmp_path / "nuclei.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    assert read_figures(path) == {}
    quality = {"metric": "PQ", "value": 0.5, "dataset": "x", "n": 2}
    record = {"sha256": read_weights(path).sha256, "quality": {"nucleus": quality}}
    path.with_suffix(".json").write_text(json.dumps(record))
    assert read_figures(path)["nucleus"].value == 0.5
    save_file({"a": torch.ones(1)}, path)
    assert read_figures(path) == {}


def test_weights_round_trip_at_half_precision(tmp_path):
    net = FlowNet()
    half = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(half, tmp_path / "w.safetensors", {"licence": "x"})
    read = read_weights(tmp_path / "w.safetensors")
    FlowNet().load_state_dict(read.tensors)
    assert read.settings == {"licence": "x"}
    assert read.tensors["top.0.weight"].dtype == torch.float32


def test_the_probe_names_organs_in_order_or_abstains(organ, skin_patch):
    answer = organ.tissue(skin_patch)
    shares = [share for _, share in answer.ranked]
    assert shares == sorted(shares, reverse=True)
    assert {name for name, _ in answer.ranked} <= set(organ.organs)
    assert answer.probability == shares[0]
    assert (answer.label is None) == (answer.probability < organ.threshold)


@pytest.mark.parametrize("shape", [(8, 8), (64, 300), (300, 64)])
def test_the_probe_takes_any_image(organ, shape):
    answer = organ.tissue(Image(np.full((*shape, 3), 255, np.uint8)))
    assert 0 <= answer.probability <= 1


def test_the_probe_abstains_on_skin_which_it_never_saw(organ, skin_patch):
    assert "skin" not in organ.organs
    assert organ.tissue(skin_patch).label is None
