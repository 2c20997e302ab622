"""The second look at nuclei: crops, grouping, ranges, and the training's own pieces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.backend import ALL_NUCLEI, BackendInfo, Image, Nuclei, NucleiBackend, OutOfRange
from models.train import mitosis as training
from models.train.config import MitosisConfig
from models.train.mitosis import Batches, choose_threshold, colour, looked_at
from models.train.pictures import Picture, split
from models.vision import mitosis as module
from models.vision.mitosis import FIGURE, SIDE, MitosisNet, MitoticFigures, cut, scores

CONFIG = MitosisConfig(
    seed=1,
    first_steps=1,
    steps=2,
    warmup=1,
    decay=1,
    batch=8,
    rate=1e-3,
    encoder_rate=1e-4,
    weight_decay=0.0,
    average=0.5,
    checkpoint_every=1,
    holdout=3,
    prevalence=10.0,
    figures={"patches": "CC0"},
    fields={"fields": "CC0"},
    licence="made",
)


class Squares:
    """Finds the squares that a made-up image shows: red value divided by 40."""

    def __init__(self):
        self.info = BackendInfo("squares", "7", "CC0-1.0", {"squares.bin": "ab"})
        self.cells = {ALL_NUCLEI: None}

    def nuclei(self, image, concept):
        labels = image.rgb[..., 0].astype(np.int32) // 40
        n = int(labels.max())
        return Nuclei(labels, (ALL_NUCLEI,) * n, np.ones(n, np.float32), 1.0, "made")


def squares(mpp):
    """Four nuclei of 10 px; the first two lie 14 px apart."""
    labels = np.zeros((120, 160), np.uint8)
    for number, (row, column) in enumerate([(20, 20), (20, 34), (20, 120), (90, 70)], 1):
        labels[row : row + 10, column : column + 10] = number
    return Image(np.repeat((labels * 40)[..., None], 3, axis=2), mpp)


def backend(tmp_path, threshold):
    torch.manual_seed(0)
    net = MitosisNet()
    half = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    path = tmp_path / "mitosis.safetensors"
    save_file(half, path, {"threshold": str(threshold), "licence": "made"})
    return MitoticFigures(Squares(), path, device="cpu")


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(-5, 45),
    st.floats(-5, 45),
    st.integers(1, 64),
)
def test_a_cut_shows_only_what_is_in_the_image(height, width, y, x, side):
    rgb = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    part = cut(rgb, (y, x), side)
    assert part.shape == (side, side, 3)
    assert {tuple(p) for p in part.reshape(-1, 3)} <= {tuple(p) for p in rgb.reshape(-1, 3)}


def test_a_cut_inside_is_a_plain_slice_and_mirrors_at_its_bounds():
    rgb = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert np.array_equal(cut(rgb, (25, 30), 10), rgb[20:30, 25:35])
    part = cut(rgb, (25, 30), 10, (22, 50, 0, 60))
    assert np.array_equal(part[:2], rgb[[23, 22], 25:35])
    assert np.array_equal(part[2:], rgb[22:30, 25:35])


def test_each_nucleus_is_scored_by_itself():
    net = MitosisNet().eval()
    rgb = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    centres = np.random.default_rng(1).uniform(0, 200, (70, 2))
    together = scores(net, rgb, centres)
    assert together.shape == (70,)
    alone = np.concatenate([scores(net, rgb, c[None]) for c in centres[60:]])
    assert np.allclose(together[60:], alone, atol=1e-4)
    assert scores(net, rgb, np.zeros((0, 2))).shape == (0,)


def test_close_finds_are_one_figure_and_the_mask_is_that_of_their_nuclei(tmp_path):
    image = squares(0.25)  # 14 px are 3.5 µm
    answer = backend(tmp_path, -100).nuclei(image, FIGURE)
    assert int(answer.labels.max()) == 3 == len(answer.kinds) == len(answer.confidence)
    assert answer.labels[25, 25] == answer.labels[25, 38] > 0
    assert np.array_equal(answer.labels > 0, image.rgb[..., 0] > 0)
    assert set(answer.kinds) == {FIGURE}
    assert answer.present == pytest.approx(1)


def test_a_nucleus_at_the_edge_is_not_looked_at(tmp_path):
    image = squares(0.25)
    close = Image(image.rgb[:, 13:], 0.25)  # the first nucleus is now 3 µm from the edge
    answer = backend(tmp_path, -100).nuclei(close, FIGURE)
    assert int(answer.labels.max()) == 3
    assert answer.labels[25, 12] == 0 < answer.labels[25, 25]


def test_at_a_coarser_scale_the_same_distance_is_two_figures(tmp_path):
    answer = backend(tmp_path, -100).nuclei(squares(0.54), FIGURE)  # 14 px are 7.6 µm
    assert int(answer.labels.max()) == 4


def test_below_the_threshold_nothing_is_found_and_the_rest_is_said(tmp_path):
    answer = backend(tmp_path, 100).nuclei(squares(None), FIGURE)
    assert not answer.labels.any()
    assert answer.kinds == ()
    assert answer.present < 0.01
    assert "at 4 nuclei" in answer.method
    assert "unknown" in answer.method


@pytest.mark.parametrize("mpp", [0.1, 1.0])
def test_outside_its_range_it_says_so(tmp_path, mpp):
    with pytest.raises(OutOfRange, match=f"{mpp:g}"):
        backend(tmp_path, 0).nuclei(squares(mpp), FIGURE)


def test_it_knows_one_concept_and_names_all_weights(tmp_path):
    loaded = backend(tmp_path, 0)
    assert isinstance(loaded, NucleiBackend)
    assert set(loaded.info.weights) == {"mitosis.safetensors", "squares.bin"}
    assert loaded.info.version.endswith("on squares 7")
    with pytest.raises(KeyError):
        loaded.nuclei(squares(0.25), ALL_NUCLEI)


def pictures():
    rng = np.random.default_rng(0)

    def picture(source, group, figures, others):
        rgb = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
        places = [rng.uniform(20, 108, (n, 2)) for n in (figures, others)]
        return Picture(source, group, rgb, *places, 0.01)

    patches = [picture("patches", str(i // 2), 2, 3) for i in range(12)]
    return patches + [picture("fields", str(i), 0, 5) for i in range(5)]


def test_whole_groups_of_every_set_are_held_out():
    train, held = split(pictures(), CONFIG.holdout)
    ids = [{(p.source, p.group) for p in part} for part in (train, held)]
    assert not ids[0] & ids[1]
    assert {source for source, _ in ids[1]} == {"patches", "fields"}
    assert len(train) + len(held) == 17


def test_a_batch_is_half_figures_and_depends_on_nothing_but_its_number():
    batches = Batches(pictures(), CONFIG)
    first, again, second = batches[3], batches[3], batches[4]
    assert first.rgb.shape == (8, 3, SIDE, SIDE)
    assert first.figure.tolist() == [1.0] * 4 + [0.0] * 4
    assert torch.equal(first.rgb, again.rgb)
    assert not torch.equal(first.rgb, second.rgb)


def test_what_looks_like_a_figure_is_drawn_more_often():
    logits = [np.array([9.0, *[-9.0] * (len(p.others) - 1)], np.float32) for p in pictures()]
    batches = Batches(pictures(), CONFIG, logits)
    for weights, per_picture in zip(batches.weights, (3, 5), strict=True):
        assert weights.sum() == pytest.approx(1)
        assert weights.reshape(-1, per_picture)[:, 0].sum() > 0.9


def test_crowded_fields_do_not_outweigh_the_others():
    rgb = np.full((64, 64, 3), 128, np.uint8)
    fields = [
        Picture("fields", str(n), rgb, np.zeros((0, 2)), np.full((n, 2), 32.0), 0.1)
        for n in (1000, 250)
    ]
    patch = Picture("patches", "1", rgb, np.full((1, 2), 32.0), np.full((1, 2), 9.0), 0.1)
    weights = Batches([*fields, patch], CONFIG).weights[1]
    assert weights[:1000].sum() == pytest.approx(0.5)


def test_a_crop_takes_the_colour_of_another_source():
    light, dark = (np.full((64, 64, 3), value, np.uint8) for value in (180, 90))
    middle = np.full((1, 2), 32.0)
    patch = Picture("patches", "1", light, middle, middle, 0.1)
    field = Picture("fields", "1", light, np.zeros((0, 2)), middle, 0.1)
    same, mixed = (Batches([patch, replace(field, rgb=rgb)], CONFIG) for rgb in (light, dark))
    figures = [np.mean([float(b[i].rgb[:4].mean()) for i in range(20)]) for b in (same, mixed)]
    assert figures[1] < figures[0] - 0.05
    assert torch.allclose(colour(dark), torch.full((3,), -float(np.log(90 / 255))))
    assert bool((colour(np.full((4, 4, 3), 255, np.uint8)) > 0).all())  # glass, no division by 0


def test_what_outscores_most_figures_is_no_negative(monkeypatch):
    none, some = np.zeros((0, 2)), np.array([[v, 0.0] for v in (0.0, 1.0, 3.0, 4.0)])
    rgb = np.zeros((64, 64, 3), np.uint8)
    monkeypatch.setattr(training, "scores", lambda net, rgb, centres: centres[:, 0])
    patches = [Picture("patches", "1", rgb, np.full((1, 2), v), some, 1.0) for v in (0.0, 5.0)]
    kept, logits = looked_at(MitosisNet(), [*patches, Picture("fields", "1", rgb, none, some, 1.0)])
    # 2.0 and 3.75 are the figures' quantiles; in a field more has to be excused
    assert [list(logit) for logit in logits] == [[0, 1], [0, 1], [0, 1, 3]]
    assert [picture.others[:, 0].tolist() for picture in kept] == [list(logit) for logit in logits]


def test_the_threshold_weighs_recall_against_false_finds_at_the_prevalence(monkeypatch):
    rgb, none = np.zeros((64, 64, 3), np.uint8), np.zeros((0, 2))
    monkeypatch.setattr(training, "scores", lambda net, rgb, centres: centres[:, 0])
    # the annotated centre comes first and is no candidate, and one figure has no candidate at all
    found = [[9.0, 1.0], [9.0, 2.0, 0.5], [9.0, 3.0], [9.0]]
    held = [Picture("p", "1", rgb, np.array([places] * 2).T, none, 0.25) for places in found]
    held.append(Picture("f", "1", rgb, none, np.array([[1.5, 1.6, 0.0, 0.0]] * 2).T, 0.0))
    assert choose_threshold(MitosisNet(), held, 1.0) == (2.0, 0.5, 0.0)
    assert choose_threshold(MitosisNet(), held, 1000.0) == (1.0, 0.75, 2.0)
    with pytest.raises(ValueError, match="no held-out"):
        choose_threshold(MitosisNet(), held[3:], 1.0)


def test_a_short_training_runs_resumes_and_ships_weights_that_load(tmp_path, monkeypatch):
    plain = module.plain_encoder
    monkeypatch.setattr(training, "adapted_encoder", lambda batches: module.fold_norms(plain()))
    train, held = split(pictures(), CONFIG.holdout)
    net = training.train(train, CONFIG, tmp_path)
    again = training.train(train, CONFIG, tmp_path)  # all checkpoints are complete
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True)
    )
    training.ship(net, train, held, CONFIG, tmp_path)
    loaded = MitoticFigures(Squares(), tmp_path / "mitosis.safetensors", device="cpu")
    assert loaded.info.licence == "made"
    assert "| patches | 8 | 8 | 24 | CC0 |" in (tmp_path / "mitosis.md").read_text("utf-8")
