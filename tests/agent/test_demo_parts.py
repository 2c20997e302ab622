"""The demo: questions about a part of the image, and corrections that become training data."""

import json

import numpy as np
import pytest

from agent.demo.corrections import Correction
from agent.demo.desk import Desk
from agent.demo.regions import region_of
from models.train.corrections import read_corrected
from tests.agent.demo_server import turn, waited
from tools.errors import BadInput

REGION = (150, 100, 200, 180)


def objects(talk) -> list[dict]:
    return json.loads(talk.files[talk.shown()[2]["features"]].read_text("utf-8"))["features"]


def centres(features: list[dict]) -> np.ndarray:
    """Middle of the box of each object, x and y."""
    rings = [np.asarray(feature["geometry"]["coordinates"][0]) for feature in features]
    return np.array([(ring.min(0) + ring.max(0)) / 2 for ring in rings])


def test_a_region_is_asked_about_alone_and_lies_in_its_place(desk, skin_file) -> None:
    talk = desk.open(skin_file, 0.499)
    turn(talk, "count the nuclei")
    everywhere = centres(objects(talk))
    talk.restrict(REGION)
    assert "200 × 180 px" in talk.shown()[0][-1]["content"]
    assert talk.shown()[2]["region"] == REGION
    turn(talk, "count the nuclei")
    inside = centres(objects(talk))
    x, y, width, height = REGION
    assert len(inside) > 10
    assert ((inside >= (x, y)) & (inside <= (x + width, y + height))).all()
    deep = (everywhere > (x + 20, y + 20)) & (everywhere < (x + width - 20, y + height - 20))
    near = [np.hypot(*(inside - centre).T).min() < 4 for centre in everywhere[deep.all(1)]]
    assert np.mean(near) > 0.8, "the nuclei of the region are not those of the whole there"
    turn(talk, "now box them")
    assert {feature["properties"]["objectType"] for feature in objects(talk)} == {
        "detection",
        "annotation",
    }
    talk.restrict(None)
    said = turn(talk, "how large are they?")
    assert said[1]["metadata"]["title"] == "Completed", "the thread of the whole image is gone"
    assert len(objects(talk)) == len(everywhere)


def test_a_region_is_cut_to_the_image_and_must_be_one(desk, skin_file, monkeypatch) -> None:
    monkeypatch.setattr("agent.demo.regions.MAX_REGIONS", 3)
    talk = desk.open(skin_file)
    talk.restrict((-50, 300, 100, 500))
    assert talk.shown()[2]["region"] == (0, 300, 50, 100)
    for bad in ((0, 0, 15, 100), (500, 500, 50, 50), (10, 10, -20, 50)):
        with pytest.raises(BadInput, match="at least 16 px"):
            talk.restrict(bad)
    for lie in ("x", [1, 2, 3], [1, 2, 3, None], [1, 2, 3, float("inf")], 5):
        with pytest.raises(BadInput, match="x, y, width and height"):
            region_of(lie)
    assert region_of([1.4, 2, 30, 40]) == (1, 2, 30, 40)
    for x in range(3):
        talk.restrict((x, 0, 100, 100))
        turn(talk, "hello")
    with pytest.raises(BadInput, match="Too many regions"):
        talk.restrict((90, 90, 100, 100))


def test_corrections_come_back_as_training_data(fast_kit, skin_file, skin, tmp_path) -> None:
    shared = tmp_path / "corrections"
    desk = Desk(fast_kit, corrections=shared)
    talk = desk.open(skin_file, 0.499)
    with pytest.raises(BadInput, match="nothing to correct"):
        talk.correct(Correction.of(5, 5, "wrong", ""), shared)
    x, y, width, height = REGION
    talk.restrict(REGION)
    turn(talk, "count the nuclei")
    found = talk._result._found
    labels = found.store.get(found.masks[0]["array"]["digest"])

    def pixel(label: int) -> tuple[int, int]:
        """A px of an instance, in px of the whole image."""
        row, column = np.argwhere(labels == label)[0]
        return int(column) + x, int(row) + y

    row, column = np.argwhere(labels == 0)[0]
    empty = (int(column) + x, int(row) + y)
    desk.correct(talk, Correction.of(*pixel(3), "right type", "lymphocytes"))
    desk.correct(talk, Correction.of(*pixel(3), "right type", "TIL"))
    desk.correct(talk, Correction.of(*pixel(5), "wrong", "whatever"))
    desk.correct(talk, Correction.of(*empty, "missed", "plasma cell"))
    for place, verdict, kind, why in (
        (empty, "wrong", "nucleus", "No nucleus was found there"),
        (pixel(3), "missed", "nucleus", "A nucleus was found there"),
        (pixel(3), "right type", "<b>", "no type of cell"),
        ((2, 2), "missed", "nucleus", "nothing to correct"),
        (pixel(3), "perhaps", "nucleus", "nothing to correct"),
    ):
        with pytest.raises(BadInput, match=why):
            desk.correct(talk, Correction.of(*place, verdict, kind))
    assert [note[2] for note in talk.shown()[2]["noted"]] == [
        "right type",
        "right type",
        "wrong",
        "missed",
    ]
    assert "corrections.jsonl" in talk.shown()[3]

    (read,) = read_corrected(shared)
    assert np.array_equal(read.rgb, skin.rgb[y : y + height, x : x + width])
    assert (read.mpp, read.digest) == (0.499, found.image)
    assert read.types == {3: "tumor infiltrating lymphocyte"}
    assert not (read.labels == 5).any()
    kept = labels != 5
    assert np.array_equal(read.labels[kept], labels[kept])
    assert labels[tuple(np.round(read.wrong[0]).astype(int)[::-1])] == 5
    assert (read.missed.tolist(), read.missed_types) == ([[column, row]], ("plasma cell",))
    desk.close()


def test_corrections_are_kept_nowhere_unless_told_to(desk, skin_file) -> None:
    talk = desk.open(skin_file, 0.499)
    turn(talk, "count the nuclei")
    x, y = centres(objects(talk))[0].astype(int).tolist()
    talk.correct(Correction.of(x, y, "wrong", ""), None)
    assert not desk.collects
    files = {path.parent for path in talk.folder.rglob("corrections.jsonl")}
    assert len(files) == 1
    desk.open(skin_file, earlier=talk.token)
    waited(lambda: not talk.folder.exists())
