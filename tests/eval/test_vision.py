"""The vision evaluation on made-up images and backends whose mistakes are known."""

import csv
import json

import numpy as np
import pytest
from PIL import Image as Pillow

from eval import vision as module
from eval.organ import TissueCase
from eval.vision import measure, tissue_figures, vision
from models.backend import ALL_NUCLEI, BackendInfo, Nuclei, Tissue
from tools.errors import BadInput

INFO = BackendInfo("made", "1", "CC0-1.0")


def labels_of(image):
    """The instances that a made-up image shows: red value times 1."""
    return image.rgb[..., 0].astype(np.int32) // 40


class Perfect:
    """Reads instances off the picture; calls every nucleus epithelial."""

    def __init__(self):
        self.info = INFO
        self.cells = {ALL_NUCLEI: None, "epithelial cell": None}

    def nuclei(self, image, concept):
        labels = labels_of(image)
        n = int(labels.max())
        return Nuclei(labels, ("epithelial cell",) * n, np.ones(n, np.float32), 1.0, "made")


class Missing(Perfect):
    """Misses the second of the instances."""

    def nuclei(self, image, concept):
        labels = labels_of(image)
        labels[labels == 2] = 0
        labels[labels == 3] = 2
        return Nuclei(labels, ("epithelial cell",) * 2, np.ones(2, np.float32), 1.0, "made")


class Colon:
    """Says colon, whatever it is given."""

    info = INFO
    organs = ("colon",)

    def tissue(self, image):
        return Tissue("colon", 0.9, (("colon", 0.9),))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two sets of two images with three square nuclei each, and four organ images."""
    labels = np.zeros((64, 64), np.uint16)
    for number, (row, column) in enumerate([(8, 8), (8, 40), (40, 24)], 1):
        labels[row : row + 12, column : column + 12] = number
    rgb = np.repeat((labels * 40).astype(np.uint8)[..., None], 3, axis=2)
    for name in ("monuseg", "consep"):
        folder = tmp_path / "nuclei" / "test" / name
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True)
        for stem in ("a", "b"):
            Pillow.fromarray(rgb).save(folder / "images" / f"{stem}.jpg", format="png")
            Pillow.fromarray(labels).save(folder / "labels" / f"{stem}.png")
    types = {stem: {"1": 3, "2": 3, "3": 2} for stem in ("a", "b")}
    (tmp_path / "nuclei/test/consep/classes.json").write_text(json.dumps({"instances": types}))
    (tmp_path / "tissue").mkdir()
    rows = [("colon", "external", "1"), ("colon", "external", "2"), ("lung", "external", "3"),
            ("oral_mucosa", "train", "4")]  # fmt: skip
    Pillow.fromarray(rgb).save(tmp_path / "tissue" / "x.png")
    with (tmp_path / "tissue" / "manifest.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "organ", "dataset", "group", "mpp", "split"])
        for organ, split, group in rows:
            writer.writerow(["tissue/x.png", organ, "s", group, "unknown", split])
    return tmp_path


def values(figures):
    return {(f.task, f.metric): f.value for f in figures}


def test_a_perfect_backend_scores_one_everywhere_but_in_the_types_it_confuses(data):
    got = values(measure(Perfect(), data, None))
    for task in ("nuclei/monuseg", "nuclei/consep"):
        for metric in ("PQ", "AJI", "Dice", "detection F1"):
            assert got[task, metric] == pytest.approx(1)
        assert got[task, "count error"] == 0
    assert got["nuclei/consep", "epithelial cell F1"] == pytest.approx(4 / 5)
    assert got["nuclei/consep", "inflammatory cell F1"] == 0
    assert ("nuclei/monuseg", "epithelial cell F1") not in got


def test_a_missed_nucleus_costs_what_it_should(data):
    got = values(measure(Missing(), data, None))
    assert got["nuclei/monuseg", "PQ"] == pytest.approx(0.8)
    assert got["nuclei/monuseg", "AJI"] == pytest.approx(2 / 3)
    assert got["nuclei/monuseg", "Dice"] == pytest.approx(0.8)
    assert got["nuclei/monuseg", "count error"] == pytest.approx(1 / 3)


def test_the_organ_is_measured_on_external_images_alone(data):
    figures = measure(Colon(), data, None)
    got = {f.metric: f for f in figures}
    assert got["coverage"].n == 3
    assert got["balanced accuracy (best guess)"].value == pytest.approx(0.5)
    assert got["false alarm"].value == pytest.approx(1 / 3)
    # expecting lung of the two colon images is questioned; expecting colon of the lung is not
    assert got["mismatch recall"].value == pytest.approx(2 / 3)


def test_a_backend_without_any_idea_is_never_right_and_never_an_alarm(data):
    class Silent(Colon):
        def tissue(self, image):
            return Tissue(None, 0.0)

    got = {f.metric: f.value for f in measure(Silent(), data, None)}
    assert got["balanced accuracy (best guess)"] == got["coverage"] == got["false alarm"] == 0
    assert "accuracy where answered" not in got


def test_an_abstention_is_no_alarm():
    cases = [TissueCase("a", None, "b", "1"), TissueCase("b", "b", "b", "2")]
    got = {f.metric: f.value for f in tissue_figures(cases)}
    assert got["false alarm"] == 0
    assert got["coverage"] == 0.5
    assert got["accuracy where answered"] == 1
    assert got["mismatch recall"] == 0.5


def test_it_prints_json_with_the_info_of_the_backend(data, monkeypatch, capsys):
    monkeypatch.setattr(module, "load_backends", lambda name: [Perfect()])
    vision(data, json=True, limit=1)
    report = json.loads(capsys.readouterr().out)
    assert report["limit"] == 1
    assert report["backends"][0]["info"]["name"] == "made"
    assert {f["n"] for f in report["backends"][0]["figures"]} == {1}


def test_wrong_folders_and_names_are_the_users_mistake(tmp_path, data):
    with pytest.raises(BadInput, match="nuclei/test"):
        vision(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="No backend 'sharp'"):
        vision(data, backend="sharp")
