"""Cards get the figures that the evaluation measured on these very weights, and no others."""

import hashlib
import json

import pytest

from models.train.cards import record_figures
from models.vision.weights import read_figures


def figure(task, metric, value, low=0.1):
    return {"task": task, "metric": metric, "value": value, "low": low, "high": 0.9, "n": 14}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "nuclei.safetensors"
    path.write_bytes(b"weights")
    path.with_suffix(".md").write_text("# card\n\n## Measured\nold figures\n")
    return path


def report(tmp_path, weights, limit=None):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    figures = [
        figure("nuclei/monuseg", "PQ", 0.51234),
        figure("nuclei/monuseg", "count R²", 0.9, None),
        figure("nuclei/consep", "inflammatory cell F1", 0.61),
        figure("nuclei/consep", "seconds", 3.0),
    ]
    backends = [{"info": {"weights": {weights.name: digest}}, "figures": figures}]
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"backends": backends, "limit": limit}))
    return path


def test_figures_reach_the_card_and_the_backend(tmp_path, weights):
    record_figures(report(tmp_path, weights), weights)
    card = weights.with_suffix(".md").read_text()
    assert "| nuclei/monuseg | PQ | 0.512 | 0.100 to 0.900 | 14 |" in card
    assert "old figures" not in card
    assert "seconds" not in card
    known = read_figures(weights)
    assert (known["nucleus"].value, known["nucleus"].n) == (0.512, 14)
    assert known["lymphocyte"].value == 0.61
    assert "inflammatory" in known["lymphocyte"].dataset
    assert "spindle cell" not in known


def test_a_second_report_replaces_the_first(tmp_path, weights):
    path = report(tmp_path, weights)
    record_figures(path, weights)
    record_figures(path, weights)
    assert weights.with_suffix(".md").read_text().count("## Measured") == 1


def test_a_report_of_other_weights_or_of_a_part_is_refused(tmp_path, weights):
    part = report(tmp_path, weights, limit=2)
    with pytest.raises(ValueError, match="all images"):
        record_figures(part, weights)
    whole = report(tmp_path, weights)
    weights.write_bytes(b"other")
    with pytest.raises(ValueError, match="does not measure"):
        record_figures(whole, weights)


def test_a_region_is_shown_with_its_dice_over_all_left_out_sources(tmp_path, weights):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    figures = [
        figure("regions/all", "gland Dice", 0.71234),
        figure("regions/all", "gland Dice of all tissue", 0.4),
        figure("regions/ebhi_polyp49", "gland Dice", 0.9),
    ]
    backends = [{"info": {"weights": {weights.name: digest}}, "figures": figures}]
    path = tmp_path / "report.json"
    command = "python -m eval.regions --data DIR --folds DIR --json"
    path.write_text(json.dumps({"command": command, "backends": backends, "limit": None}))
    record_figures(path, weights)
    known = read_figures(weights)
    assert list(known) == ["gland"]
    assert (known["gland"].metric, known["gland"].value) == ("Dice", 0.712)
    assert command in weights.with_suffix(".md").read_text()
