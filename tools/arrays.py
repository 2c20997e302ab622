"""Arrays by handle: content digest, shape and dtype travel; the pixels stay in a store.

A handle is what a tool's output, a plan's state and a trace hold in place of an array. The digest
is `models.backend.array_digest`: SHA-256 over dtype, shape and raw bytes, so a handle also proves
that the array behind it is the one that was recorded.
"""

from __future__ import annotations

import gzip
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.backend import Array, array_digest
from tools.errors import BadInput

_SUFFIX = ".npy.gz"
MAX_BYTES = 4 * 2**30
"""Of one array that is read; a label map of the largest image that is taken has fewer."""


class ArrayHandle(BaseModel):
    """Names an array by its content: SHA-256 `digest` (hex), `shape`, numpy `dtype` string."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    shape: tuple[int, ...]
    dtype: str


class ArrayStore(Protocol):
    """Where arrays are kept by content. Arrays that come out are read-only."""

    def put(self, array: Array) -> ArrayHandle:
        """Keep `array` (idempotent) and name it."""
        ...

    def get(self, digest: str) -> Array:
        """The array of that digest; KeyError where the store does not hold it."""
        ...


def handle_of(array: Array) -> ArrayHandle:
    """The handle of `array`, without keeping it."""
    return ArrayHandle(digest=array_digest(array), shape=array.shape, dtype=array.dtype.str)


def handles_in(value: Any) -> Iterator[ArrayHandle]:
    """Every handle inside a JSON-like value, depth first, repeats included."""
    if isinstance(value, dict):
        if value.keys() == ArrayHandle.model_fields.keys():
            yield ArrayHandle.model_validate(value)
        else:
            for item in value.values():
                yield from handles_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from handles_in(item)


class MemoryStore:
    """Arrays in this process, without a bound: for one run, or one call in a worker."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}

    def put(self, array: Array) -> ArrayHandle:
        """Keep a read-only view of `array` and name it."""
        handle = handle_of(array)
        self.arrays.setdefault(handle.digest, _frozen(array))
        return handle

    def get(self, digest: str) -> Array:
        """The array of that digest; KeyError where there is none."""
        return self.arrays[digest]


class DiskStore:
    """Arrays as gzipped `.npy` files named by digest, with the last few also in memory.

    Files are written to the side and renamed, so a killed process leaves no half array under a
    digest. Anyone can read one: `gunzip`, then `numpy.load`.
    """

    def __init__(self, folder: Path, keep_bytes: int = 128 * 2**20) -> None:
        self.folder = folder
        self._keep_bytes = keep_bytes
        self._recent: OrderedDict[str, Array] = OrderedDict()
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, array: Array) -> ArrayHandle:
        """Write `array` where it is not there yet, and name it."""
        handle = handle_of(array)
        path = self._path(handle.digest)
        if not path.exists():
            aside = path.with_name(f".{uuid4().hex}")
            with gzip.GzipFile(aside, "wb", compresslevel=1, mtime=0) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            aside.replace(path)
        self._remember(handle.digest, _frozen(array))
        return handle

    def get(self, digest: str) -> Array:
        """The array of that digest.

        Raises:
            KeyError: the store does not hold it.
            BadInput: the file behind the digest holds other bytes than its name says.
        """
        with self._lock:
            if digest in self._recent:
                self._recent.move_to_end(digest)
                return self._recent[digest]
        with self._opened(digest) as file:
            if _nbytes(file) > MAX_BYTES:  # a small file of a stranger may hold that
                raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
            file.seek(0)
            array = np.lib.format.read_array(file, allow_pickle=False)
        if array_digest(array) != digest:
            raise BadInput(f"the array {self._path(digest).name} was changed after it was written")
        array = _frozen(array)
        self._remember(digest, array)
        return array

    def forget(self) -> None:
        """Let go of what is in memory; the files stay."""
        with self._lock:
            self._recent.clear()

    def nbytes(self, digest: str) -> int:
        """Bytes that the array of that digest would take, by its file's header alone.

        Raises:
            KeyError: the store does not hold it.
            BadInput: the header can't be read.
        """
        with self._opened(digest) as file:
            return _nbytes(file)

    @contextmanager
    def _opened(self, digest: str) -> Iterator[gzip.GzipFile]:
        path = self._path(digest)
        if not path.is_file():
            raise KeyError(digest)
        try:
            with gzip.open(path, "rb") as file:
                yield file
        except Exception as error:  # gzip, zlib, tokenize and numpy each have their own
            raise BadInput(f"the array {path.name} is damaged ({error})") from error

    def share(self, digest: str, other: DiskStore) -> None:
        """Make `other` hold the array too, as a hard link where the file system allows it."""
        source, target = self._path(digest), other._path(digest)
        if target.exists():
            return
        try:
            os.link(source, target)
        except OSError:
            other.put(self.get(digest))

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_SUFFIX}"

    def _remember(self, digest: str, array: Array) -> None:
        with self._lock:
            self._recent[digest] = array
            self._recent.move_to_end(digest)
            while (
                len(self._recent) > 1
                and sum(item.nbytes for item in self._recent.values()) > self._keep_bytes
            ):
                self._recent.popitem(last=False)


def _nbytes(file: gzip.GzipFile) -> int:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not a version that is written here")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return math.prod(shape) * dtype.itemsize


def _frozen(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view
