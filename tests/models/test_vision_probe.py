"""The organ probe's training: balance, what is left out, the cautious threshold."""

import csv

import numpy as np
import pytest

from models.train.config import TissueConfig
from models.train.probe import (
    LeftOut,
    Set,
    accuracy,
    calibrate,
    choose_threshold,
    fit,
    leave_organs_out,
    leave_sources_out,
)
from models.train.tissue import augmented, read_manifest
from models.vision.features import SIDE, even_stain, views
from models.vision.tissue import softmax

CONFIG = TissueConfig(seed=1, views=2, shrinkages=[0.01], false_alarm=0.05, licence="CC0-1.0")
ORGANS = ["colon", "lung"]


def clusters():
    """Two organs, two sources each; the first feature tells the organ, the second the source."""
    rng = np.random.default_rng(0)
    organ = np.repeat(["colon", "lung"], 40)
    source = np.repeat(["colon/a", "colon/b", "lung/c", "lung/d"], 20)
    x = rng.normal(0, 0.3, (80, 2, 3))
    x[..., 0] += np.where(organ == "lung", 2, -2)[:, None]
    x[..., 1] += np.where(np.isin(source, ["colon/b", "lung/d"]), 2, -2)[:, None]
    return Set(x, x[:, :1].repeat(3, axis=1), organ, source)


def test_sources_left_out_are_recognised_by_what_the_others_share():
    out = list(leave_sources_out(clusters(), ORGANS, 0.01))
    assert [part.name for part in out] == ["colon/a", "colon/b", "lung/c", "lung/d"]
    assert [part.target for part in out] == [0, 0, 1, 1]
    assert all(part.logits.shape == (20, 2) for part in out)
    assert accuracy(out) == 1


def test_an_organ_left_out_can_not_be_named():
    for part in leave_organs_out(clusters(), ORGANS, 0.01):
        assert part.target == -1
        assert (part.logits.argmax(axis=1) != ORGANS.index(part.name)).all()


def test_an_organ_of_one_source_is_not_judged_without_it():
    data = clusters()
    one = Set(
        data.train, data.plain, data.organ, np.where(data.organ == "lung", "lung/c", data.source)
    )
    assert [part.name for part in leave_sources_out(one, ORGANS, 0.01)] == ["colon/a", "colon/b"]


def test_a_rare_organ_weighs_as_much_as_a_common_one():
    x = np.zeros((30, 1, 1))
    data = Set(x, x, np.array(["colon"] * 27 + ["lung"] * 3), np.array(["a"] * 27 + ["b"] * 3))
    share = softmax(fit(data, np.ones(30, bool), ORGANS, 0.01).logits(x))
    assert share[0] == pytest.approx([0.5, 0.5], abs=0.01)


def test_the_temperature_cools_logits_that_boast():
    rng = np.random.default_rng(0)
    right = rng.random(4000) < 0.7
    logits = np.where(right[:, None], [10.0, 0.0], [0.0, 10.0])
    temperature = calibrate([LeftOut("x", logits, 0)])
    share = softmax(np.array([10.0, 0.0]) / temperature)[0]
    assert share == pytest.approx(0.7, abs=0.05)


def test_the_threshold_lets_few_wrong_names_through():
    wrong = LeftOut("unseen", np.log(np.array([[0.905, 0.095]] * 4 + [[0.555, 0.445]] * 96)), -1)
    assert choose_threshold([wrong], 1.0, 0.05) == pytest.approx(0.56)
    assert choose_threshold([wrong], 1.0, 0.01) == pytest.approx(0.91)
    sure = LeftOut("unseen", np.log(np.array([[1 - 1e-9, 1e-9]])), -1)
    assert choose_threshold([sure], 1.0, 0.05) == 1.0


def test_only_rows_with_the_wanted_licence_and_split_are_read(tmp_path):
    (tmp_path / "tissue").mkdir()
    with (tmp_path / "tissue" / "manifest.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "organ", "dataset", "licence", "split"])
        writer.writerow(["\0\0a.jpg", "oral_mucosa", "s", "none stated", "train"])
        writer.writerow(["b.jpg", "lung", "t", "CC BY 4.0", "train"])
        writer.writerow(["c.jpg", "lung", "t", "CC0", "external"])
    everything = read_manifest(tmp_path, CONFIG)
    assert [(s.path, s.organ) for s in everything] == [("a.jpg", "oral mucosa"), ("b.jpg", "lung")]
    free = read_manifest(tmp_path, CONFIG.model_copy(update={"licences": ["CC0", "CC BY 4.0"]}))
    assert [(s.number, s.source) for s in free] == [(1, "lung/t")]


def test_views_have_the_encoders_size_and_repeat():
    rgb = np.random.default_rng(0).integers(60, 200, (150, 260, 3), dtype=np.uint8)
    assert views(rgb).shape == (3, 3, SIDE, SIDE)
    once = augmented(rgb, 2, np.random.default_rng(3))
    assert once.shape == (2, 3, SIDE, SIDE)
    assert (once == augmented(rgb, 2, np.random.default_rng(3))).all()


def test_evening_the_stain_undoes_a_change_of_stain():
    import torch

    density = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.3
    gain = torch.tensor([1.3, 0.8, 1.1])[:, None, None]
    one, other = even_stain(torch.exp(-density)), even_stain(torch.exp(-(density * gain + 0.05)))
    assert float((one - other).abs().mean()) < 0.01
    glass = torch.full((3, 64, 64), 0.97)
    assert torch.equal(even_stain(glass), glass)
