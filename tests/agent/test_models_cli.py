"""`histopilot models`: what is there, what it is worth, and what is wrong with it."""

import json
import sys

import pytest
import torch

from agent import catalogue
from agent.cli import main
from models import backends
from models.external.config import SLOTS, file_sha256
from models.vision.weights import WEIGHTS


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs `histopilot models …`, with an empty configuration: status, stdout, stderr."""
    monkeypatch.setenv("HISTOPILOT_MODELS", str(tmp_path / "models.toml"))
    monkeypatch.setattr(catalogue, "_planner", lambda _: catalogue.Model("local", "", "", "ok"))
    monkeypatch.setattr(catalogue, "_state", lambda paths: "ok" if paths else "no weights")

    def run(*words: str):
        monkeypatch.setattr(sys, "argv", ["histopilot", *words])
        try:
            status = main()
        except SystemExit as done:
            status = done.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def configure(tmp_path):
    """Writes a section `torchscript` for a checkpoint of `content`; gives the checkpoint."""

    def write(content: bytes, sha256: str = ""):
        path = tmp_path / "net.pt"
        path.write_bytes(content)
        (tmp_path / "models.toml").write_text(
            f'[torchscript]\ncheckpoint = "net.pt"\nlicence = "MIT"\n'
            f'sha256 = "{sha256 or file_sha256(path)}"\n'
        )
        backends._loaded.cache_clear()
        return path

    yield write
    backends._loaded.cache_clear()


def test_the_list_has_every_backend_with_what_is_known_of_it(command):
    status, out, _ = command("models", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert set(rows) == {*backends.LOADERS, "local"}
    flow = rows["flow"]
    assert (flow["purpose"], flow["state"]) == ("nuclei", "ok")
    assert flow["vocabulary"] >= 5
    assert "nuclei.safetensors" in [file["name"] for file in flow["files"]]
    assert {len(file["sha256"]) for file in flow["files"]} == {64}
    assert rows["classical"]["state"] == "no weights"
    assert "PQ" in [one["metric"] for one in rows["classical"]["measured"]]
    assert {rows[name]["state"] for name in SLOTS} == {"not configured"}
    assert rows["cellpose-sam"]["licence"] == "CC-BY-NC-4.0"


def test_the_list_for_people_is_a_table(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = command("models", "list")
    assert status == 0
    line = next(line for line in out.splitlines() if line.startswith("classical"))
    assert "Apache-2.0" in line
    assert "Dice 0.773 (fat droplet)" in line


def test_check_loads_what_is_configured(command, configure, monkeypatch):
    class Nothing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1] * 0

    path = configure(b"")
    torch.jit.script(Nothing()).save(str(path))
    configure(path.read_bytes())
    monkeypatch.setattr(catalogue, "LOADERS", ("classical", *SLOTS))
    status, out, _ = command("models", "check")
    assert status == 0
    assert "torchscript: ok\n" in out
    assert "sam: not configured\n" in out
    assert "classical: no weights\n" in out


def test_check_fails_where_a_file_is_another_one_or_does_not_load(command, configure):
    configure(b"no network", "0" * 64)
    status, out, _ = command("models", "check")
    assert status == 1
    assert "is another file than configured" in out
    configure(b"no network")
    status, out, _ = command("models", "check")
    assert status == 1
    assert len(next(line for line in out.splitlines() if line.startswith("torchscript"))) > 20
    assert command("models", "list")[0] == 0


@pytest.mark.parametrize("weights", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_shipped_weights_are_those_of_their_card(weights):
    assert catalogue._state([weights]) == "ok"


def test_a_weights_file_that_its_card_does_not_describe_is_named(tmp_path):
    (tmp_path / "net.md").write_text("SHA-256 000000000000")
    (tmp_path / "net.safetensors").write_bytes(b"weights")
    state = catalogue._state([tmp_path / "net.safetensors"])
    assert state == "net.safetensors is not the file that net.md describes"


def test_a_broken_configuration_is_bad_input(command, tmp_path):
    (tmp_path / "models.toml").write_text("[sam")
    status, _, err = command("models", "list")
    assert status == 2
    assert err.startswith("histopilot: ")
    assert "can't be read" in err
    assert err.count("\n") == 1


def test_a_backend_that_is_not_configured_is_refused_before_anything_runs(command, tmp_path):
    job = ("ask", "sample", "count the nuclei", "--planner", "rules", "--out", str(tmp_path / "o"))
    status, _, err = command(*job, "--backend", "count_nuclei=cellpose-sam")
    assert status == 2
    assert "download its checkpoint" in err
    assert "CC-BY-NC-4.0" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "o" / "result.json").exists()


def test_what_stops_a_look_at_a_model_is_its_state(command, monkeypatch, tmp_path):
    def no_card(_):
        raise FileNotFoundError("no such file: [bold]nuclei.md[/nothing]")

    monkeypatch.setattr(catalogue, "_state", no_card)
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = command("models", "list")
    assert status == 0
    assert "[bold]nuclei.md[/nothing]" in out
    assert command("models", "check")[0] == 1


def test_a_base_model_that_is_not_the_pinned_one_is_named(monkeypatch, tmp_path):
    base = tmp_path / "base.gguf"
    base.write_bytes(b"another")
    monkeypatch.setattr(catalogue, "find_base", lambda: base)
    monkeypatch.setattr(catalogue, "load_planner", lambda _: None)
    assert catalogue._planner(loaded=False).state.startswith("base.gguf is not the pinned file")
    monkeypatch.setattr(catalogue, "LOADERS", {})
    monkeypatch.setattr(catalogue, "ADAPTER", tmp_path / "none.safetensors")
    (lost,) = catalogue.models()
    assert lost.broken
    assert "none.safetensors" in lost.state
