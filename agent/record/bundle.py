"""Finding a trace wherever it is: a folder, a result folder, or a bundle, which is made here.

A bundle is a zip of `events.jsonl` and of the arrays that its events name. Bundling one trace
twice gives the same bytes; unpacking takes nothing but those two kinds of files.
"""

from __future__ import annotations

import json
import logging
import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.output.writer import RESULT_FILE
from agent.planners.base import PlannerUnavailable
from agent.record.trace import BLOBS_FOLDER, EVENTS_FILE, Trace, read_trace
from tools.errors import BadInput

log = logging.getLogger(__name__)
MAX_BYTES = 8 * 2**30
"""What a bundle may unpack to; what an array in it may, its store bounds when it is read."""
_MEMBER = re.compile(rf"{re.escape(EVENTS_FILE)}|{BLOBS_FOLDER}/[0-9a-f]{{64}}\.npy\.gz")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,  # zipfile's word for a compression that it can't undo
    RuntimeError,  # and for an encrypted member
    EOFError,
    OSError,
)


@contextmanager
def opened(path: Path, most: int = MAX_BYTES) -> Iterator[Trace]:
    """The trace at `path`, for as long as the block lasts.

    What a trace with events of another shape makes go wrong in the block becomes one line.

    Args:
        path: a trace folder, a result folder that names one, or a bundle.
        most: bytes that a bundle may unpack to.

    Raises:
        BadInput: there is no trace, or it does not hold what the block needs.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="histopilot-bundle-") as scratch:
            bundled = path.is_file() and zipfile.is_zipfile(path)
            yield read_trace(unpack(path, Path(scratch), most) if bundled else find_trace(path))
    except (BadInput, PlannerUnavailable):
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        log.exception("the trace does not hold what it should")
        what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise BadInput(f"{path.name} is not a trace that can be read ({what})") from error


def find_trace(path: Path) -> Path:
    """The trace folder at `path`, or the one that the result folder at `path` names.

    Raises:
        BadInput: there is neither.
    """
    if (path / EVENTS_FILE).is_file() or path.name == EVENTS_FILE:
        return path
    if (path / RESULT_FILE).is_file():
        try:
            name = str(json.loads((path / RESULT_FILE).read_text("utf-8"))["trace"])
        except (ValueError, KeyError, TypeError, RecursionError):
            name = ""
        if Path(name).name == name and (path / name / EVENTS_FILE).is_file():
            return path / name
    raise BadInput(f"there is no trace at {path}: give a trace folder, a result folder or a bundle")


def pack(trace: Trace, target: Path) -> None:
    """Write the bundle of a trace.

    Raises:
        BadInput: an array that the events name is not there: it would not replay.
    """
    files = {EVENTS_FILE: trace.folder / EVENTS_FILE}
    names = sorted(f"{handle.digest}.npy.gz" for handle in trace.arrays())
    files |= {f"{BLOBS_FOLDER}/{name}": trace.blobs / name for name in names}
    lost = [name for name, file in files.items() if not file.is_file()]
    if lost:
        raise BadInput(f"{trace.folder.name} lacks {lost[0]}: copy the trace whole")
    aside = target.with_name(f".{target.name}.part")
    with zipfile.ZipFile(aside, "w") as bundle:
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            packed = name == EVENTS_FILE  # the arrays are compressed already
            entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            entry.file_size = file.stat().st_size
            with file.open("rb") as source, bundle.open(entry, "w") as sink:
                shutil.copyfileobj(source, sink, 2**20)
    aside.replace(target)


def unpack(bundle: Path, folder: Path, most: int = MAX_BYTES) -> Path:
    """Unpack a bundle of at most `most` bytes into `folder`; gives the trace's folder.

    Raises:
        BadInput: it holds something that no bundle of ours holds, or is damaged or too large.
    """
    try:
        with zipfile.ZipFile(bundle) as archive:
            members = archive.infolist()
            strange = [entry.filename for entry in members if not _MEMBER.fullmatch(entry.filename)]
            if strange:
                raise BadInput(f"{bundle.name} is not a bundle of a trace: it holds {strange[0]!r}")
            if sum(entry.file_size for entry in members) > most:
                raise BadInput(f"{bundle.name} would unpack to more than {most:,} bytes")
            for entry in members:
                target = folder / entry.filename
                target.parent.mkdir(exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 2**20)
    except _DAMAGED as error:
        raise BadInput(f"{bundle.name} is a damaged bundle ({error})") from error
    return folder
