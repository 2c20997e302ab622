"""The second look at nuclei: crops, grouping, ranges, and the training's own pieces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models import backends
from models.backend import ALL_NUCLEI, BackendInfo, Image, Nuclei, NucleiBackend, OutOfRange
from models.train import mitosis as training
from models.train.config import MitosisConfig
from models.train.finish_mitosis import Looked, best_threshold, run, score
from models.train.mitosis import Batches, colour, looked_at
from models.train.pictures import Marked, Picture, split
from models.vision import mitosis as module
from models.vision.mitosis import FIGURE, SIDE, MitosisNet, MitoticFigures, cut, scores
from models.vision.net import Ensemble

CONFIG = MitosisConfig(
    seed=1,
    first_steps=1,
    steps=2,
    warmup=1,
    decay=1,
    batch=24,
    rate=1e-3,
    encoder_rate=1e-4,
    weight_decay=0.0,
    average=0.5,
    checkpoint_every=1,
    holdout=3,
    marked_seeds=[1, 2],
    marked_steps=2,
    marked_rate=0.5,
    figures={"patches": "CC0"},
    fields={"fields": "CC0"},
    marked={"marked": "CC0"},
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
    net = Ensemble([MitosisNet()])
    half = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    path = tmp_path / "mitosis.safetensors"
    save_file(half, path, {"threshold": str(threshold), "members": "1", "licence": "made"})
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
        return Picture(source, group, rgb, *places)

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
    assert first.rgb.shape == (24, 3, SIDE, SIDE)
    assert first.figure.tolist() == [1.0] * 12 + [0.0] * 12
    assert torch.equal(first.rgb, again.rgb)
    assert not torch.equal(first.rgb, second.rgb)


def test_what_looks_like_a_figure_is_drawn_more_often():
    logits = [np.array([9.0, *[-9.0] * (len(p.others) - 1)], np.float32) for p in pictures()]
    batches = Batches(pictures(), CONFIG, logits)
    for pool, per_picture in zip(batches.pools[1:], (3, 5), strict=True):
        assert pool.chances is not None
        assert pool.chances.sum() == pytest.approx(1)
        assert pool.chances.reshape(-1, per_picture)[:, 0].sum() > 0.9


def test_crowded_fields_do_not_outweigh_the_others():
    rgb = np.full((64, 64, 3), 128, np.uint8)
    fields = [
        Picture("fields", str(n), rgb, np.zeros((0, 2)), np.full((n, 2), 32.0)) for n in (1000, 250)
    ]
    patch = Picture("patches", "1", rgb, np.full((1, 2), 32.0), np.full((1, 2), 9.0))
    weights = Batches([*fields, patch], CONFIG).pools[2].chances
    assert weights is not None
    assert weights[:1000].sum() == pytest.approx(0.5)


def test_a_crop_takes_the_colour_of_another_source():
    light, dark = (np.full((64, 64, 3), value, np.uint8) for value in (180, 90))
    middle = np.full((1, 2), 32.0)
    patch = Picture("patches", "1", light, middle, middle)
    field = Picture("fields", "1", light, np.zeros((0, 2)), middle)
    same, mixed = (Batches([patch, replace(field, rgb=rgb)], CONFIG) for rgb in (light, dark))
    figures = [np.mean([float(b[i].rgb[:12].mean()) for i in range(8)]) for b in (same, mixed)]
    assert figures[1] < figures[0] - 0.05
    assert torch.allclose(colour(dark), torch.full((3,), -float(np.log(90 / 255))))
    assert bool((colour(np.full((4, 4, 3), 255, np.uint8)) > 0).all())  # glass, no division by 0


def test_what_outscores_most_figures_is_no_negative(monkeypatch):
    none, some = np.zeros((0, 2)), np.array([[v, 0.0] for v in (0.0, 1.0, 3.0, 4.0)])
    rgb = np.zeros((64, 64, 3), np.uint8)
    monkeypatch.setattr(training, "scores", lambda net, rgb, centres: centres[:, 0])
    patches = [Picture("patches", "1", rgb, np.full((1, 2), v), some) for v in (0.0, 5.0)]
    kept, logits = looked_at(MitosisNet(), [*patches, Picture("fields", "1", rgb, none, some)])
    # 2.0 and 3.75 are the figures' quantiles; in a field more has to be excused
    assert [list(logit) for logit in logits] == [[0, 1], [0, 1], [0, 1, 3]]
    assert [picture.others[:, 0].tolist() for picture in kept] == [list(logit) for logit in logits]


def marked():
    rng = np.random.default_rng(3)
    fields = []
    for i in range(4):
        rgb = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
        points, others = rng.uniform(20, 60, (2, 2)), rng.uniform(90, 108, (6, 2))
        picture = Picture("marked", f"case {i // 2}", rgb, points, others, marked=True)
        fields.append(Marked(picture, points, np.vstack([points, others])))
    return fields


def test_marked_fields_give_a_part_of_the_figures_and_half_of_the_others():
    fields = [field.picture for field in marked()]
    batches = Batches([*pictures(), *fields], CONFIG)
    drawn = [(pool.count, pool.figure, pool.places[0][0] >= 17) for pool in batches.pools]
    assert drawn == [
        (8, True, False),
        (4, True, True),
        (3, False, False),
        (3, False, False),
        (6, False, True),
    ]


def test_the_threshold_has_the_best_f1_on_what_was_left_out():
    def field(logits, points):
        nuclei = np.array([[100.0 * i, 50.0] for i in range(len(logits))])
        return Looked("1", nuclei[points], nuclei, np.array(logits, np.float32))

    fields = [field([3.0, 2.0, 1.0, -np.inf], [0, 2]), field([0.5, -1.0], [0])]
    assert score(fields, 2.5) == pytest.approx((0.5, 1.0, 1 / 3))
    threshold = best_threshold(fields)
    assert 0.4 < threshold < 0.5
    assert score(fields, threshold) == pytest.approx((6 / 7, 3 / 4, 1.0))
    assert fields[0].found(9.0) == (0, 0, 2)
    with pytest.raises(ValueError, match="no marked figure"):
        best_threshold(
            [Looked("1", np.zeros((1, 2)), np.full((1, 2), 99.0), np.ones(1, np.float32))]
        )


def test_two_close_nuclei_are_one_find():
    nuclei = np.array([[50.0, 50.0], [50.0, 70.0]])
    logits = np.ones(2, np.float32)
    assert Looked("1", np.array([[50.0, 60.0]]), nuclei, logits).found(0.0) == (1, 0, 0)


def test_a_short_training_runs_resumes_and_ships_weights_that_load(tmp_path, monkeypatch):
    plain = module.plain_encoder
    monkeypatch.setattr(training, "adapted_encoder", lambda batches: module.fold_norms(plain()))
    run(pictures(), marked(), CONFIG, tmp_path)
    files = [f"mitosis{end}.safetensors" for end in ("", "-case 0", "-case 1")]
    first = [load_file(tmp_path / file) for file in files]
    run(pictures(), marked(), CONFIG, tmp_path)  # all checkpoints are complete
    for file, weights in zip(files, first, strict=True):
        again = load_file(tmp_path / file)
        assert all(torch.equal(again[name], weights[name]) for name in weights)
    loaded = [MitoticFigures(Squares(), tmp_path / file, device="cpu") for file in files]
    assert loaded[0].info.licence == "made"
    states = [one.net.state_dict()["members.0.head.1.weight"] for one in loaded]
    assert not torch.equal(states[0], states[1])
    card = (tmp_path / "mitosis.md").read_text("utf-8")
    assert "| patches | 8 | 8 | " in card
    assert "| marked | 4 | 8 | 24 | CC0 |" in card


def test_what_is_far_below_at_the_first_look_gets_no_other(monkeypatch):
    sides: list[tuple[int, int]] = []

    def told(net, rgb, centres, side=SIDE):
        sides.append((side, len(centres)))
        return (centres[:, 0] - 60).astype(np.float32) + side / 1000

    monkeypatch.setattr(module, "scores", told)
    rgb = np.zeros((200, 200, 3), np.uint8)
    centres = np.array([[61.0, 50.0], [58.0, 50.0], [50.0, 50.0], [3.0, 50.0]])
    found = module.looks(MitosisNet(), rgb, centres, 0.0)
    assert sides == [(80, 3), (64, 2), (96, 2), (112, 2)]
    assert found == pytest.approx([1.088, -1.912, -9.92, -np.inf], abs=1e-4)


def test_the_shipped_network_is_measured_and_finds_no_figure_in_normal_skin(skin):
    shipped = backends.load("mitosis")
    quality = shipped.cells[FIGURE]
    assert quality is not None
    assert (quality.metric, quality.n) == ("F1", 18)
    answer = shipped.nuclei(skin, FIGURE)
    assert answer.kinds == ()
    assert 0 < answer.present < 0.5
