"""One call from request to result: the same code in this process and in a Ray worker."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from models import ontology
from models.backend import Image, OutOfRange
from models.backends import load
from tools.arrays import ArrayHandle, ArrayStore
from tools.base import BackendNote, Output, Scene, Tool, stored
from tools.errors import ToolError, ToolFailure
from tools.place import device, threads
from tools.registry import TOOLS

log = logging.getLogger(__name__)


class ImageHandle(BaseModel):
    """An image in a store.

    Attributes:
        pixels: the handle of its uint8 (H, W, 3) array.
        mpp: µm/px, None where unknown.
        origin, downsample: where it lies in its file (`tools.image.LoadedImage`); no tool's
            output depends on it, annotations do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pixels: ArrayHandle
    mpp: float | None
    origin: tuple[int, int] = (0, 0)
    downsample: float = 1.0


class CallRequest(BaseModel):
    """One call, ready to run: everything that its output depends on, as plain data.

    Attributes:
        call: its reference, `"$n"` (or `"check"` for the graph's own step).
        tool: the tool's name.
        args: the tool's arguments as the plan gives them.
        image: the thread's image.
        inputs: for each reference argument, the tool and output of the call referred to.
        backends: names of the vision backends that may answer, in order of preference.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    call: str
    tool: str
    args: dict[str, Any]
    image: ImageHandle
    inputs: dict[str, tuple[str, dict[str, Any]]]
    backends: tuple[str, ...] = ()


class CallResult(BaseModel):
    """What came out: an output or an error, never both.

    Attributes:
        key: SHA-256 over tool, version, backend, arguments (references by what they refer to),
            inputs and image: equal keys mean equal outputs.
        seconds: wall time of the tool itself.
        attempts: how often it was started (a lost worker is retried once).
        device, threads: torch's where the tool ran; None where it never did.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    call: str
    tool: str
    args: dict[str, Any]
    version: str
    backend: BackendNote | None = None
    key: str
    output: dict[str, Any] | None = None
    error: ToolError | None = None
    seconds: float = 0.0
    attempts: int = 1
    device: str | None = None
    threads: int | None = None


def execute(request: CallRequest, store: ArrayStore) -> CallResult:
    """Run one call. Never raises for what a tool does: its failure is the result's `error`."""
    tool = TOOLS[request.tool]
    began = time.perf_counter()
    note: BackendNote | None = None
    output: Output | None = None
    error: ToolError | None = None
    try:
        args = tool.arguments.model_validate(request.args)
        backends = {name: load(name) for name in request.backends}
        chosen = tool.choose_backend(args, backends)
        if chosen is not None:
            note = BackendNote.of(backends[chosen].info)
        rgb = stored(store, request.image.pixels)
        scene = Scene(
            image=Image(rgb, request.image.mpp, request.image.pixels.digest),
            inputs={
                name: TOOLS[producer].output.model_validate(value)
                for name, (producer, value) in request.inputs.items()
            },
            store=store,
            backend=None if chosen is None else backends[chosen],
        )
        output = tool.run(args, scene)
    except ToolFailure as failure:
        error = failure.error
    except OutOfRange as outside:
        error = ToolError(code="outside_range", message=str(outside))
    except ValidationError as invalid:
        error = ToolError(code="bad_input", message=f"{request.tool}: {_brief(invalid)}")
    except Exception as fault:
        log.exception("%s failed inside", request.tool)
        error = ToolError(
            code="internal",
            message=f"{request.tool} failed inside: {type(fault).__name__}: {fault}",
        )
    return CallResult(
        call=request.call,
        tool=request.tool,
        args=request.args,
        version=tool.version,
        backend=note,
        key=_key(request, tool, note),
        output=None if output is None else output.model_dump(mode="json"),
        error=error,
        seconds=time.perf_counter() - began,
        device=device(),
        threads=threads(),
    )


def failed(request: CallRequest, error: ToolError, attempts: int = 1) -> CallResult:
    """The result of a call that could not be run at all."""
    tool = TOOLS[request.tool]
    return CallResult(
        call=request.call,
        tool=request.tool,
        args=request.args,
        version=tool.version,
        key=_key(request, tool, None),
        error=error,
        attempts=attempts,
    )


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: what digests are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def _key(request: CallRequest, tool: Tool[Any, Any], note: BackendNote | None) -> str:
    free = {k: v for k, v in request.args.items() if k not in request.inputs}
    return digest_of(
        {
            "tool": tool.name,
            "version": tool.version,
            "backend": None if note is None else note.model_dump(mode="json"),
            "asked": list(request.backends) if note is None else [],
            "tissue": load("classical").info.version,
            "ontology": ontology.digest(),
            "args": free,
            "inputs": {name: digest_of(value) for name, (_, value) in request.inputs.items()},
            "image": request.image.model_dump(mode="json", include={"pixels", "mpp"}),
        }
    )


def _brief(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
