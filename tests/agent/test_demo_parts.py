"""The demo: questions about a part of the image, and corrections that become training data."""

import io
import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from agent.demo.corrections import Correction
from agent.demo.desk import Desk
from agent.demo.regions import region_of
from models.train.corrections import read_corrected
from tests.agent.demo_server import turn, waited
from tools.errors import BadInput

REGION = (150, 100, 200, 180)


def objects(talk) -> list[dict]:
    return json.loads(talk.file(talk.shown()[2]["features"]).read_text("utf-8"))["features"]


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


@pytest.fixture
def slide(tmp_path, sample, monkeypatch):
    """The sample as a slide of three levels, too large to be read whole."""
    monkeypatch.setattr("agent.demo.picture.MAX_PIXELS", 1000 * 1000)
    monkeypatch.setattr("agent.demo.conversation.MAX_PIXELS", 1000 * 1000)
    path = tmp_path / "slide.tif"
    tiles = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        for level in range(3):
            size = {"resolution": (1e4 / 0.499, 1e4 / 0.499), "resolutionunit": "CENTIMETER"}
            pixels = np.asarray(Pillow.fromarray(sample.rgb).reduce(2**level))
            writer.write(pixels, subfiletype=int(level > 0), **tiles, **(size if not level else {}))
    return path


def test_a_slide_is_seen_whole_and_asked_about_in_parts(desk, slide, sample) -> None:
    talk = desk.open(slide)
    assert "drag a region" in talk.shown()[0][-1]["content"]
    slide.unlink()  # as an upload is
    told = talk.shown()[2]
    assert (told["width"], told["height"], told["levels"]) == (1200, 1200, 3)
    assert told["mpp"] == pytest.approx(0.499, rel=1e-3)
    for level, column, row in ((0, 1, 1), (0, 2, 2), (1, 1, 0), (2, 0, 0)):
        seen = np.asarray(Pillow.open(io.BytesIO(talk.file(f"tile-{level}-{column}-{row}.jpg"))))
        reduced = np.asarray(Pillow.fromarray(sample.rgb).reduce(2**level))
        y, x = row * 512, column * 512
        expected = reduced[y : y + 512, x : x + 512]
        assert seen.shape == expected.shape
        assert np.abs(seen.astype(int) - expected).mean() < 4
    assert talk.file("tile-0-3-0.jpg") is talk.file("tile-3-0-0.jpg") is None
    turn(talk, "outline the tissue")
    x, y = centres(objects(talk))[0]
    assert 400 < x < 800, "what was found at a lower level lies on the whole slide"
    talk.restrict((400, 500, 300, 300))
    turn(talk, "count the nuclei")
    inside = centres(objects(talk))
    assert ((inside >= (400, 500)) & (inside <= (700, 800))).all()
    assert talk._result._found.mpp == pytest.approx(0.499, rel=1e-3)
    x, y = inside[0].astype(int).tolist()
    talk.correct(Correction.of([(x, y)], "wrong", ""), None)


def test_corrections_come_back_as_training_data(fast_kit, skin_file, skin, tmp_path) -> None:
    shared = tmp_path / "corrections"
    desk = Desk(fast_kit, corrections=shared)
    talk = desk.open(skin_file, 0.499)
    with pytest.raises(BadInput, match="nothing to correct"):
        talk.correct(Correction.of([(5, 5)], "wrong", ""), shared)
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
    desk.correct(talk, Correction.of([pixel(3)], "right type", "lymphocytes"))
    desk.correct(talk, Correction.of([pixel(3)], "right type", "TIL"))
    desk.correct(talk, Correction.of([pixel(5), pixel(7), pixel(8)], "wrong", "whatever"))
    desk.correct(talk, Correction.of([empty], "missed", "plasma cell"))
    for place, verdict, kind, why in (
        (empty, "wrong", "nucleus", "No nucleus was found there"),
        (pixel(3), "missed", "nucleus", "A nucleus was found there"),
        (pixel(3), "right type", "<b>", "no type of cell"),
        ((2, 2), "missed", "nucleus", "nothing to correct"),
        ((2, 2.5), "missed", "nucleus", "x and y in px"),
        ("55", "missed", "nucleus", "x and y in px"),
        (pixel(3), "perhaps", "nucleus", "nothing to correct"),
    ):
        with pytest.raises(BadInput, match=why):
            desk.correct(talk, Correction.of([place], verdict, kind))
    said = [note[2] for note in talk.shown()[2]["noted"]]
    assert said == ["right type"] * 2 + ["wrong"] * 3 + ["missed"]
    assert "corrections.jsonl" in talk.shown()[3]

    (read,) = read_corrected(shared)
    assert np.array_equal(read.rgb, skin.rgb[y : y + height, x : x + width])
    assert (read.mpp, read.digest) == (0.499, found.image)
    assert read.types == {3: "tumor infiltrating lymphocyte"}
    gone = np.isin(labels, (5, 7, 8))
    assert gone.any()
    assert not read.labels[gone].any()
    kept = ~gone
    assert np.array_equal(read.labels[kept], labels[kept])
    centres = np.round(read.wrong).astype(int)
    assert labels[centres[:, 1], centres[:, 0]].tolist() == [5, 7, 8]
    assert (read.missed.tolist(), read.missed_types) == ([[column, row]], ("plasma cell",))
    desk.close()


def test_corrections_are_kept_nowhere_unless_told_to(desk, skin_file) -> None:
    talk = desk.open(skin_file, 0.499)
    turn(talk, "count the nuclei")
    x, y = centres(objects(talk))[0].astype(int).tolist()
    talk.correct(Correction.of([(x, y)], "wrong", ""), None)
    assert not desk.collects
    files = {path.parent for path in talk.folder.rglob("corrections.jsonl")}
    assert len(files) == 1
    desk.open(skin_file, earlier=talk.token)
    waited(lambda: not talk.folder.exists())
