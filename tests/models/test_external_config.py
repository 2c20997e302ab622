"""What a user writes into models.toml, and what is said where it is wrong."""

import hashlib
import tomllib

import pytest

from models.backends import LOADERS, load
from models.external.config import (
    SLOTS,
    ModelUnavailable,
    SamEntry,
    TorchScriptEntry,
    configured,
    read_config,
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes models.toml beside a checkpoint `net.pt`; gives the checkpoint's hash."""
    checkpoint = tmp_path / "net.pt"
    checkpoint.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setenv("HISTOPILOT_MODELS", str(tmp_path / "models.toml"))

    def writer(text):
        (tmp_path / "models.toml").write_text(text.replace("DIGEST", digest), encoding="utf-8")
        return digest

    return writer


SAM = '[sam]\ncheckpoint = "net.pt"\nsha256 = "DIGEST"\nmodel_type = "vit_b"\n'


def test_a_section_is_read_with_paths_from_the_files_folder(write, tmp_path):
    digest = write(SAM)
    entry = configured("sam", SamEntry)
    assert entry.checkpoint == tmp_path / "net.pt"
    assert (entry.sha256, entry.model_type, entry.over) == (digest, "vit_b", "classical")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "sam is not configured: download its checkpoint (https://"),
        ("[sam", "can't be read"),
        (SAM + "chekpoint = 1", "chekpoint: Extra inputs"),
        (SAM + "[samm]\n", "[samm] is none of: sam, cellpose-sam"),
        (SAM.replace("vit_b", "vit_x"), "model_type: Input should be 'vit_b'"),
        (SAM.replace("net.pt", "gone.pt"), "there is no file"),
        (SAM.replace("DIGEST", "0" * 64), "another file than configured: its sha256 is "),
        (SAM.replace("DIGEST", "abc"), "sha256: String should match"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, text, said):
    write(text)
    with pytest.raises(ModelUnavailable) as caught:
        configured("sam", SamEntry)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_changes_is_read_again(write, tmp_path):
    write(SAM)
    configured("sam", SamEntry)
    (tmp_path / "net.pt").write_bytes(b"other weights")
    with pytest.raises(ModelUnavailable, match="another file"):
        configured("sam", SamEntry)


@pytest.mark.parametrize("name", SLOTS)
def test_each_slot_is_a_backend_and_says_how_to_configure_it(write, name):
    write("")
    with pytest.raises(ModelUnavailable) as caught:
        load(name)
    lines = str(caught.value).partition(f"[{name}] ")[2].replace(", ", "\n")
    digest = "0" * 64
    assert name in LOADERS
    SLOTS[name].entry.model_validate(tomllib.loads(lines.replace("...", digest)))


def test_without_a_file_nothing_is_configured(tmp_path, monkeypatch):
    monkeypatch.setenv("HISTOPILOT_MODELS", str(tmp_path / "none.toml"))
    assert read_config() == {}
    with pytest.raises(ModelUnavailable, match="not configured"):
        configured("torchscript", TorchScriptEntry)
