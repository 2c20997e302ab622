"""The mitosis evaluation on two made-up patients and a backend whose mistakes are known."""

import csv

import numpy as np
import pytest
import typer
from PIL import Image as Pillow

from eval.mitosis import main, mitosis_cases, mitosis_figures, without_figures
from models.backend import BackendInfo, Nuclei

PATIENTS = ("Case_1", "Case_2")
FIELDS = {"Case_1-01": [(40, 40), (40, 160)], "Case_1-02": [(100, 100)], "Case_2-01": []}


class Dots:
    """Calls every white dot of a field a mitotic figure."""

    def __init__(self):
        self.info = BackendInfo("dots", "1", "CC0-1.0")
        self.cells = {"mitotic figure": None}

    def nuclei(self, image, concept):
        side = round(8 * 0.25 / image.mpp)
        labels = np.zeros(image.shape, np.int32)
        rows, columns = np.nonzero(image.rgb[::side, ::side, 0] > 200)
        for number, (row, column) in enumerate(zip(rows, columns, strict=True), 1):
            labels[row * side : (row + 1) * side, column * side : (column + 1) * side] = number
        n = len(rows)
        return Nuclei(labels, (concept,) * n, np.ones(n, np.float32), 1.0, "made")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "mitosis" / "brecahad"
    (folder / "images").mkdir(parents=True)
    points, fields = [["image", "cls", "x", "y"]], [["image", "case"]]
    for name, figures in FIELDS.items():
        rgb = np.zeros((200, 240, 3), np.uint8)
        for x, y in figures[:1] if name == "Case_1-01" else figures:  # one is not drawn
            rgb[y : y + 8, x : x + 8] = 255
        if name != "Case_1-02":
            rgb[160:168, 200:208] = 255  # and one is no figure
        points += [[name, "mitosis", x, y] for x, y in figures]
        points += [[name, "apoptosis", 204, 164]] if name == "Case_1-01" else []
        fields.append([name, name.split("-")[0]])
        Pillow.fromarray(rgb).save(folder / "images" / f"{name}.jpg", quality=100)
    for file, rows in (("points.csv", points), ("images.csv", fields)):
        with (folder / file).open("w", newline="") as handle:
            csv.writer(handle).writerows(rows)
    return tmp_path


@pytest.mark.parametrize("coarser", [1, 2])
def test_finds_are_matched_to_annotated_figures_at_both_scales(data, coarser):
    backends = dict.fromkeys(PATIENTS, Dots())
    cases = list(mitosis_cases(backends, data / "mitosis" / "brecahad", coarser))
    assert [(c.found.tp, c.found.fp, c.found.fn) for c in cases] == [
        (1, 1, 1),
        (1, 0, 0),
        (0, 1, 0),
    ]
    assert [case.marked.fp for case in cases] == [1, 0, 0], "the last one has no mark of its own"
    assert cases[0].area == pytest.approx(200 * 240 * 0.25**2 / 1e6)
    assert [c.name for c in without_figures(cases)] == ["Case_2-01"]


def test_the_figures_are_pooled_and_by_patient(data):
    backends = dict.fromkeys(PATIENTS, Dots())
    figures = mitosis_figures(backends, data / "mitosis" / "brecahad")
    got = {f.metric: f for f in figures}
    assert got["F1"].value == pytest.approx(4 / 7)
    assert got["precision"].value == pytest.approx(2 / 4)
    assert got["precision at nuclei with a mark"].value == pytest.approx(2 / 3)
    assert got["recall"].value == pytest.approx(2 / 3)
    assert got["F1, Case 1 alone"].value == pytest.approx(2 / 3)
    assert got["F1, Case 1 alone"].n == 2
    assert got["false per mm²"].value == pytest.approx(1 / 0.003)
    assert got["F1 at 0.5 µm/px"].value == pytest.approx(4 / 7)
    assert "F1, Case 2 alone" not in got


def test_each_patient_is_looked_at_by_the_network_that_never_saw_it(data):
    class Blind(Dots):
        def nuclei(self, image, concept):
            return Nuclei(np.zeros(image.shape, np.int32), (), np.zeros(0, np.float32), 0.0, "made")

    cases = mitosis_cases({"Case_1": Blind(), "Case_2": Dots()}, data / "mitosis" / "brecahad")
    assert [(case.found.tp, case.found.fp) for case in cases] == [(0, 0), (0, 0), (0, 1)]


def test_a_folder_without_a_run_is_the_users_mistake(data, tmp_path):
    with pytest.raises(typer.BadParameter, match="mitosis-Case_1"):
        main(data, tmp_path)
