"""The region evaluation on made-up images and backends whose mistakes are known."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from eval import regions as module
from eval.regions import ALL, RegionSet, region_cases, region_figures
from models.backend import BackendInfo, Quality, Region
from tools.errors import BadInput


class Seer:
    """Sees glands where the picture is dark; reports them wherever there are any."""

    info = BackendInfo("made", "1", "CC0-1.0")
    sources: tuple[str, ...] = ()

    def __init__(self):
        self.regions = {"gland": Quality("Dice", 1.0, "made", 2)}

    def region(self, image, concept):
        mask = image.rgb[..., 0] < 100
        return Region(mask, 0.9 if mask.any() else 0.1, "made")


class Blind(Seer):
    """Was trained on the masks, and sees a gland in everything."""

    sources = ("masks",)

    def region(self, image, concept):
        return Region(np.ones(image.shape, bool), 0.9, "made")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two masked images, one with a gland in its upper half, and two tiles that have none."""
    folder = tmp_path / "regions" / "masks"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for stem, rows in (("a", 16), ("b", 0)):
        mask = np.zeros((32, 32), np.uint8)
        mask[:rows] = 1
        rgb = np.where(mask[..., None] == 1, (60, 20, 90), (230, 150, 190)).astype(np.uint8)
        Pillow.fromarray(rgb).save(folder / "images" / f"{stem}.png")
        Pillow.fromarray(mask).save(folder / "masks" / f"{stem}.png")
        Pillow.fromarray(rgb).save(tmp_path / f"{stem}.png")
    (tmp_path / "tissue").mkdir()
    lines = [
        "path,dataset,cls,group,split",
        "a.png,d,muscle,1,external",
        "b.png,d,muscle,2,external",
    ]
    (tmp_path / "tissue" / "manifest.csv").write_text("\n".join(lines))
    monkeypatch.setattr(module, "MASKS", (RegionSet("masks", 0.5, {"gland": (1,)}),))
    monkeypatch.setattr(module, "TILES", (RegionSet("d/muscle", 0.5, {}, without=("gland",)),))
    return tmp_path


def values(backends, data):
    cases = list(region_cases(backends, data, ["gland"]))
    return {(f.task, f.metric): (f.value, f.n) for f in region_figures(cases)}


def test_dice_where_it_is_and_false_masks_where_it_is_not(data):
    found = values([Seer()], data)
    assert found["regions/masks", "gland Dice"] == (1.0, 1)
    assert found["regions/masks", "gland Dice of all tissue"][0] < 1
    assert found["regions/masks", "gland found"] == (1.0, 1)
    assert found["regions/masks", "gland false masks"] == (0.0, 1)
    assert found["regions/d/muscle", "gland false masks"] == (0.5, 2)
    assert found[ALL, "gland false masks"] == (0.25, 3)  # every set alike


def test_a_set_that_it_was_trained_on_is_left_to_the_fold_that_was_not(data):
    alone = values([Blind()], data)
    assert ("regions/masks", "gland Dice") not in alone
    assert alone["regions/d/muscle", "gland false masks"] == (1.0, 2)
    both = values([Blind(), Seer()], data)
    assert both["regions/masks", "gland Dice"] == (1.0, 1)
    assert ("regions/masks", "gland found") not in both  # presence is the shipped network's own
    assert both["regions/d/muscle", "gland false masks"] == (1.0, 2)


def test_the_command_prints_a_report_that_names_the_backend(data, monkeypatch):
    monkeypatch.setattr(module, "load", lambda name: Seer())
    app = module.typer.Typer()
    app.command()(module.main)
    ran = CliRunner().invoke(app, ["--data", str(data), "--json"])
    report = json.loads(ran.stdout)
    assert report["backends"][0]["info"]["name"] == "made"
    assert report["backends"][0]["figures"]
    assert "gland" in CliRunner().invoke(app, ["--data", str(data)]).stdout


def test_data_without_regions_are_refused(tmp_path):
    with pytest.raises(BadInput, match="regions"):
        list(region_cases([Seer()], tmp_path, ["gland"]))
