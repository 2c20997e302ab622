"""Which checkpoints the production backends load: one small TOML file, a section a backend.

The file is `$HISTOPILOT_MODELS`, else `models.toml` in the user's configuration folder:

    [sam]
    checkpoint = "sam_vit_b_01ec64.pth"   # relative to the file, or absolute
    sha256 = "..."                        # of the checkpoint, checked before it is read
    model_type = "vit_b"

Nothing is fetched: these models are large, and their licences are the user's to accept.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from models.planner.fetch import file_sha256

if TYPE_CHECKING:
    import torch


class ModelUnavailable(RuntimeError):  # noqa: N818 - names the state, which the user can mend
    """A production backend can't be used as it is configured. The message is one line."""


class Entry(BaseModel):
    """What every section says.

    Attributes:
        checkpoint: the weights file; a relative path starts at the TOML file's folder.
        sha256: of that file, 64 hex digits.
        device: as torch names it; by default CUDA where there is one, else the CPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    checkpoint: Path
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    device: str = ""

    def torch_device(self) -> torch.device:
        """The device to load to."""
        import torch

        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))


E = TypeVar("E", bound=Entry)


class SamEntry(Entry):
    """`sam`: `over` is the region backend whose masks it refines."""

    model_type: Literal["vit_b", "vit_l", "vit_h"]
    over: Literal["regions", "classical"] = "classical"


class TorchScriptEntry(Entry):
    """`torchscript`: the licence of its weights, and the µm/px at which it works."""

    licence: str
    mpp: PositiveFloat = 0.5


class EncoderEntry(Entry):
    """`hf-encoder`: `checkpoint` lies in the model's folder, beside its `config.json`.

    Attributes:
        licence: of its weights.
        probe: what `python -m models.train tissue --hf-encoder` made of it; a relative path starts
            at the TOML file's folder.
        model_args: arguments for timm that the folder's `config.json` does not hold.
    """

    licence: str
    probe: Path | None = None
    model_args: dict[str, bool | int | float | str] = {}


@dataclass(frozen=True)
class Slot:
    """A production backend that can be configured.

    Attributes:
        entry: the model of its section.
        purpose: what it does, in a few words.
        source: where its checkpoint comes from.
        licence: of the checkpoint.
        example: the lines of its section after `checkpoint` and `sha256`.
    """

    entry: type[Entry]
    purpose: str
    source: str
    licence: str
    example: str = ""


SLOTS = {
    "sam": Slot(
        SamEntry,
        "edges of another backend's regions",
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        "Apache-2.0",
        'model_type = "vit_b"',
    ),
    "cellpose-sam": Slot(
        Entry,
        "every nucleus",
        "https://huggingface.co/mouseland/cellpose-sam",
        "CC-BY-NC-4.0",
    ),
    "torchscript": Slot(
        TorchScriptEntry,
        "every nucleus",
        "InstanSeg brightfield_nuclei, https://github.com/instanseg/instanseg/releases",
        "Apache-2.0",
        'licence = "Apache-2.0"',
    ),
    "hf-encoder": Slot(
        EncoderEntry,
        "the organ, by a probe on a pathology foundation model",
        "for example UNI2-h, https://huggingface.co/MahmoodLab/UNI2-h",
        "of the model",
        'licence = "CC-BY-NC-ND-4.0"',
    ),
}
"""The production backends by name. Licences are those that the sources state."""


def config_path() -> Path:
    """The TOML file: `$HISTOPILOT_MODELS`, else `models.toml` in the user's config folder."""
    override = os.environ.get("HISTOPILOT_MODELS")
    folder = platformdirs.user_config_path("histopilot")
    return Path(override) if override else folder / "models.toml"


def read_config() -> dict[str, dict[str, Any]]:
    """The sections of the TOML file, empty where there is no file.

    Raises:
        ModelUnavailable: it is not TOML, or has a section or key outside the sections.
    """
    path = config_path()
    if not path.exists():
        return {}
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} can't be read: {error}") from error
    for name, section in sections.items():
        if name not in SLOTS or not isinstance(section, dict):
            raise ModelUnavailable(f"{path}: [{name}] is none of: {', '.join(SLOTS)}")
    return sections


def configured(name: str, kind: type[E]) -> E:
    """The section of the backend `name`, with absolute paths, its checkpoint's hash checked.

    Args:
        name: a key of `SLOTS`.
        kind: that slot's `entry`.

    Raises:
        ModelUnavailable: there is no such section, it is wrong, or the file is not there or is
            another one; the message says what to do.
    """
    path, slot = config_path(), SLOTS[name]
    section = read_config().get(name)
    if section is None:
        lines = ", ".join(filter(None, ('checkpoint = "FILE"', 'sha256 = "..."', slot.example)))
        raise ModelUnavailable(
            f"{name} is not configured: download its checkpoint ({slot.source}; licence "
            f"{slot.licence}) and write into {path}: [{name}] {lines}"
        )
    try:
        entry = kind.model_validate(section)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelUnavailable(f"{path}: [{name}] {key}: {first['msg']}") from invalid
    checkpoint = path.parent / entry.checkpoint.expanduser()
    if not checkpoint.is_file():
        raise ModelUnavailable(f"{path}: [{name}] there is no file {checkpoint}")
    stat = checkpoint.stat()
    found = _sha256(checkpoint, stat.st_mtime_ns, stat.st_size)
    if found != entry.sha256:
        raise ModelUnavailable(
            f"{path}: [{name}] {checkpoint} is another file than configured: its sha256 is {found}"
        )
    return entry.model_copy(update={"checkpoint": checkpoint})


@lru_cache(maxsize=16)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    """SHA-256 of a file that was last changed then: gigabytes are read once a process."""
    del mtime_ns, size
    return file_sha256(path)
