"""The commands as people and machines call them: files, exit statuses, one line for bad input."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from jsonschema import validate
from PIL import Image as Pillow
from skimage import data

from agent.cli import main

RESULT = {
    "type": "object",
    "required": ["status", "text", "tissue", "masks", "boxes", "measurements", "trace", "seconds"],
    "properties": {
        "status": {
            "enum": [
                *("completed", "needs_confirmation", "declined"),
                *("answered", "clarify", "failed"),
            ]
        },
        "text": {"type": "string", "minLength": 1},
        "tissue": {
            "type": ["object", "null"],
            "required": ["label", "probability"],
        },
        "masks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["call", "target", "kind", "file", "present", "count"],
                "properties": {"kind": {"enum": ["semantic", "instance"]}},
            },
        },
        "boxes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["call", "xyxy"],
                "properties": {"xyxy": {"type": "array", "minItems": 4, "maxItems": 4}},
            },
        },
        "measurements": {"type": "object"},
        "trace": {"type": "string"},
        "seconds": {"type": "object", "required": ["total"]},
    },
}


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs `histopilot …` with the rules planner in a folder of its own: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))

    def run(*words: object) -> tuple[int, str, str]:
        argv = [str(word) for word in words]
        if argv[0] in ("ask", "batch"):
            argv += ["--planner", "rules"]
        monkeypatch.setattr(sys, "argv", ["histopilot", *argv])
        try:
            status = main()
        except SystemExit as done:
            status = done.code
        out, err = capsys.readouterr()
        return int(status or 0), out, err

    return run


@pytest.fixture
def small(tmp_path, skin) -> Path:
    path = tmp_path / "images" / "skin.png"
    path.parent.mkdir()
    Pillow.fromarray(skin.rgb).save(path)
    return path


def result_in(folder: Path) -> dict:
    result = json.loads((folder / "result.json").read_text("utf-8"))
    validate(result, RESULT)
    return result


def test_the_main_job(command, tmp_path) -> None:
    status, out, err = command(
        "ask", "sample", "count the nuclei inside the epidermis", "--out", "out"
    )
    assert (status, err) == (0, "")
    result = result_in(tmp_path / "out")
    assert result["status"] == "completed"
    assert "count_nuclei within $2" in out
    assert "nuclei were found inside the epidermis" in " ".join(out.split())
    region, nuclei = (
        np.asarray(Pillow.open(tmp_path / "out" / mask["file"])) for mask in result["masks"]
    )
    assert region.dtype == nuclei.dtype == np.uint16
    assert region.shape == nuclei.shape == (1200, 1200)
    assert set(np.unique(region)) == {0, 1}
    assert len(np.unique(nuclei)) - 1 == nuclei.max() == result["masks"][1]["count"]
    assert Pillow.open(tmp_path / "out" / "overlay.png").size[0] >= 1200
    features = json.loads((tmp_path / "out" / "annotations.geojson").read_text("utf-8"))
    kinds = [item["properties"]["objectType"] for item in features["features"]]
    assert kinds.count("detection") == result["masks"][1]["count"]
    assert "annotation" in kinds


def test_json_for_machines_is_one_object_on_stdout(command, small) -> None:
    status, out, err = command("ask", small, "segment the dermis", "--json", "--mpp", "0.5")
    assert (status, err) == (0, "")
    validate(json.loads(out), RESULT)


def test_a_thread_goes_on_without_its_image(command, small, tmp_path) -> None:
    command("ask", small, "count the nuclei", "--thread", "t1", "--mpp", "0.5", "--out", "a")
    status, _, err = command("ask", "now box them", "--thread", "t1", "--out", "b")
    assert (status, err) == (0, "")
    first, second = result_in(tmp_path / "a"), result_in(tmp_path / "b")
    assert len(second["boxes"]) == first["masks"][0]["count"] > 0
    status, out, _ = command("replay", "b")
    assert (status, out.splitlines()[-1]) == (0, "The replay is identical.")


def test_a_photograph_needs_confirmation_and_yes_goes_on(command, tmp_path) -> None:
    Pillow.fromarray(data.astronaut()).save("photo.png")
    status, out, _ = command("ask", "photo.png", "count the nuclei", "--out", "a")
    assert status == 0
    assert result_in(tmp_path / "a")["status"] == "needs_confirmation"
    assert "go on with --yes" in " ".join(out.split())
    command("ask", "photo.png", "count the nuclei", "--out", "b", "--yes")
    assert result_in(tmp_path / "b")["status"] in ("completed", "declined")
    status, _, _ = command("replay", "b")
    assert status == 0


def test_a_batch_writes_a_folder_an_image_and_a_table(command, small, tmp_path) -> None:
    (small.parent / "broken.png").write_bytes(small.read_bytes()[:500])
    (small.parent / "notes.txt").write_text("not an image")
    status, _, _ = command("batch", small.parent, "count the nuclei", "--out", "out", "--mpp", 0.5)
    assert status == 0
    assert result_in(tmp_path / "out" / "skin")["status"] == "completed"
    rows = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert list(rows["image"]) == ["broken.png", "skin.png"]
    assert list(rows["status"]) == ["bad_input", "completed"]
    parquet = pd.read_parquet(tmp_path / "out" / "summary.parquet")
    assert list(parquet["status"]) == list(rows["status"])


def test_replay_says_what_differs(command, small, tmp_path) -> None:
    command("ask", small, "count the nuclei", "--out", "out", "--mpp", "0.5")
    events = tmp_path / "out" / "trace" / "events.jsonl"
    assert command("replay", "out")[0] == 0
    assert command("replay", events.parent, "--planner", "rules", "--json")[0] == 0
    lines = events.read_text("utf-8").splitlines(keepends=True)
    events.write_text("".join(lines[:-1]) + lines[-1][:20], "utf-8")
    status, out, _ = command("replay", "out")
    assert status == 3
    assert "The record is damaged" in out
    status, out, _ = command("trace", "show", "out")
    assert status == 0
    assert "is torn" in " ".join(out.split())


def test_trace_show_prints_a_tree_with_times(command, small) -> None:
    command("ask", small, "segment the dermis", "--out", "out", "--mpp", "0.5")
    status, out, _ = command("trace", "show", "out")
    assert status == 0
    assert "segment dermis on classical" in out
    assert " s" in out
    assert "digest" in out


def test_a_result_replaces_an_earlier_one_in_its_folder_and_keeps_its_trace(
    command, small, tmp_path
) -> None:
    command("ask", small, "count the nuclei", "--out", "out", "--mpp", "0.5")
    assert (tmp_path / "out" / "mask-1.png").exists()
    command("ask", small, "hello", "--out", "out", "--mpp", "0.5")
    assert result_in(tmp_path / "out")["status"] == "answered"
    assert not (tmp_path / "out" / "mask-1.png").exists()
    assert sorted(path.name for path in (tmp_path / "out").glob("trace*")) == ["trace", "trace-2"]


def bad_images(folder: Path) -> dict[str, Path]:
    """A file for every way in which an image can't be used."""
    good = folder / "good.png"
    Pillow.fromarray(np.full((64, 64, 3), 180, np.uint8)).save(good)
    paths = {name: folder / f"{name}.png" for name in ("truncated", "zero_byte", "one_px", "text")}
    paths["truncated"].write_bytes(good.read_bytes()[:60])
    paths["zero_byte"].write_bytes(b"")
    Pillow.new("RGB", (1, 1)).save(paths["one_px"])
    paths["text"].write_text("I am not an image")
    paths["nan"] = folder / "nan.tif"
    tifffile.imwrite(paths["nan"], np.full((64, 64, 3), np.nan, np.float32))
    paths["bomb"] = folder / "bomb.png"
    Pillow.new("1", (30_000, 30_000)).save(paths["bomb"])
    paths["missing"] = folder / "missing.png"
    paths["directory"] = folder
    return paths


KINDS = ["truncated", "zero_byte", "one_px", "text", "nan", "bomb", "missing", "directory"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_image_is_one_line_and_exit_2(command, tmp_path, kind: str) -> None:
    path = bad_images(tmp_path)[kind]
    status, out, err = command("ask", path, "count the nuclei", "--out", "out")
    assert (status, out) == (2, "")
    assert err.startswith("histopilot: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ask", "{image}", ""], "instruction is empty"),
        (["ask", "{image}", "nuclei " * 14_286], "100,001 characters"),
        (["ask", "{image}"], "give an image and an instruction"),
        (["ask", "{image}", "count", "cells"], "give an image and an instruction"),
        (["ask", "{image}", "count nuclei", "--mpp", "-1"], "µm per pixel"),
        (["ask", "{image}", "count nuclei", "--mpp", "nan"], "µm per pixel"),
        (["ask", "{image}", "count nuclei", "--mpp", "big"], "mpp"),
        (["ask", "{image}", "count nuclei", "--region", "1,2"], "--region is x,y,w,h"),
        (["ask", "{image}", "count nuclei", "--region", "9999,0,50,50"], "region"),
        (["ask", "{image}", "count nuclei", "--runtime", "moon"], "no runtime"),
        (["ask", "{image}", "count nuclei", "--backend", "count_nuclei=moon"], "is not TOOL=NAME"),
        (["ask", "{image}", "count nuclei", "--out", "/proc/none"], "can't write"),
        (["ask", "box them", "--thread", "../up"], "a thread's name"),
        (["ask", "box them", "--thread", "new"], "no image yet"),
        (["batch", "{image}", "count nuclei", "--out", "o"], "is not a folder"),
        (["replay", "{image}"], "no trace at"),
        (["trace", "show", "nowhere"], "no trace at"),
        (["fly"], "fly"),
    ],
)
def test_bad_words_are_one_line_and_exit_2(command, small, words, says: str) -> None:
    status, out, err = command(*(word.replace("{image}", str(small)) for word in words))
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def odd_images(folder: Path, rgb: np.ndarray) -> dict[str, Path]:
    """The same field in every odd form that still holds an image."""
    pillow = Pillow.fromarray(rgb)
    paths = {}
    for name, picture, suffix in (
        ("palette", pillow.quantize(256), "png"),
        ("alpha", pillow.convert("RGBA"), "png"),
        ("cmyk", pillow.convert("CMYK"), "jpg"),
    ):
        paths[name] = folder / f"{name}.{suffix}"
        picture.save(paths[name])
    paths["animated"] = folder / "animated.gif"
    pillow.save(paths["animated"], save_all=True, append_images=[pillow.rotate(90)])
    paths["16bit"] = folder / "16bit.tif"
    tifffile.imwrite(paths["16bit"], rgb.astype(np.uint16) * 257, photometric="rgb")
    return paths


@pytest.mark.parametrize("kind", ["palette", "alpha", "cmyk", "animated", "16bit"])
def test_an_odd_image_gets_a_right_answer(command, tmp_path, skin, kind: str) -> None:
    path = odd_images(tmp_path, skin.rgb)[kind]
    command("ask", small_png(tmp_path, skin.rgb), "count the nuclei", "--mpp", 0.5, "--out", "a")
    status, _, err = command("ask", path, "count the nuclei", "--mpp", 0.5, "--out", "b")
    assert (status, err) == (0, "")
    plain, odd = result_in(tmp_path / "a"), result_in(tmp_path / "b")
    assert odd["status"] == "completed"
    expected = plain["masks"][0]["count"]
    assert odd["masks"][0]["count"] == pytest.approx(expected, rel=0.25 if kind == "cmyk" else 0.15)


def small_png(folder: Path, rgb: np.ndarray) -> Path:
    path = folder / "plain.png"
    Pillow.fromarray(rgb).save(path)
    return path


def test_all_white_is_asked_about(command, tmp_path) -> None:
    Pillow.new("RGB", (300, 300), "white").save("white.png")
    status, _, _ = command("ask", "white.png", "count the nuclei", "--out", "out")
    assert status == 0
    result = result_in(tmp_path / "out")
    assert result["status"] == "needs_confirmation"
    assert "no tissue" in result["text"]


def test_chinese_is_answered_not_crashed(command, small, tmp_path) -> None:
    status, _, _ = command("ask", small, "数一下细胞核", "--out", "out")
    assert status == 0
    assert result_in(tmp_path / "out")["status"] in ("clarify", "completed")
