"""Calls on Ray actors: arrays by reference through the object store, time limits that hold.

Each actor keeps its backends loaded and its last encodings, so calls on one image go to an
actor that has seen it where one is idle. A running actor method can't be cancelled: a call over
its time limit costs the actor, which is killed and made anew. Errors come back as data, since Ray
loses the type of exceptions with arguments of their own.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray

from models.backend import Array
from tools.arrays import ArrayHandle, ArrayStore, MemoryStore, handles_in
from tools.base import stored
from tools.errors import BadInput, ToolError, ToolFailure
from tools.execute import CallRequest, CallResult, execute, failed

_KEPT_BYTES = 2**30
_KEPT_IMAGES = 8


class _Worker:
    """The actor's body: one call at a time, in a process of its own."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)

    def execute(
        self, request: str, digests: list[str], *arrays: Array
    ) -> tuple[str, dict[str, Array]]:
        """Run a request (JSON) on the arrays of those digests; gives result and new arrays."""
        store = MemoryStore()
        store.arrays.update(zip(digests, arrays, strict=True))
        result = execute(CallRequest.model_validate_json(request), store)
        new = {d: a for d, a in store.arrays.items() if d not in digests}
        return result.model_dump_json(), {d: np.array(a) for d, a in new.items()}


@dataclass
class _Slot:
    actor: Any
    busy: bool = False
    store: ArrayStore | None = None
    stopped: bool = False
    images: OrderedDict[str, None] = field(default_factory=OrderedDict)


class RayRuntime:
    """A pool of actors on a local or remote Ray cluster.

    Args:
        workers: actors; each takes `num_cpus` CPUs and `num_gpus` GPUs (fractions are allowed).
        timeout_s: time limit of one call in seconds.
        address: of a running cluster; None starts one in this machine.
        num_cpus: CPUs of one actor, also its number of torch threads.
        num_gpus: GPUs of one actor, for example 0.25.
    """

    name = "ray"

    def __init__(
        self,
        workers: int = 2,
        timeout_s: float = 300.0,
        address: str | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
    ) -> None:
        self._timeout_s = timeout_s
        self._owner = not ray.is_initialized()
        if self._owner:
            there = address or os.environ.get("RAY_ADDRESS")
            ray.init(
                address=address,
                num_cpus=None if there else max(1, round(workers * num_cpus)),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        self._actor = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0)(_Worker)
        self._threads = max(1, round(num_cpus))
        self._free = threading.Condition()
        self._slots = [_Slot(self._new_actor()) for _ in range(workers)]
        self._references: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    @classmethod
    def from_environment(cls) -> RayRuntime:
        """The runtime that `RAY_ADDRESS` and the `HISTOPILOT_` variables below describe.

        Raises:
            BadInput: one of them is not a number.
        """
        given: dict[str, float] = {}
        for option in ("workers", "timeout_s", "num_cpus", "num_gpus"):
            text = os.environ.get(f"HISTOPILOT_{option.upper()}")
            try:
                given |= {} if text is None else {option: float(text)}
            except ValueError:
                raise BadInput(f"HISTOPILOT_{option.upper()} is {text!r}, not a number") from None
        return cls(
            workers=int(given.get("workers", 2)),
            timeout_s=given.get("timeout_s", 300.0),
            num_cpus=given.get("num_cpus", 1),
            num_gpus=given.get("num_gpus", 0),
        )

    def execute(self, request: CallRequest, store: ArrayStore) -> CallResult:
        """Run one call on an idle actor; waits for one where all are busy.

        A lost worker is retried once on a new one; a call over the time limit, or stopped, is not.
        """
        image = request.image.pixels.digest
        for attempt in (1, 2):
            slot = self._take(image, store)
            try:
                outcome = self._on(slot, request, store)
                stopped = slot.stopped
            finally:
                self._give(slot, image)
            if isinstance(outcome, CallResult):
                return outcome.model_copy(update={"attempts": attempt})
            if outcome.code == "timeout" or stopped or attempt == 2:
                return failed(request, outcome, attempt)
        raise AssertionError("the second attempt returned")

    def stop(self, store: ArrayStore) -> bool:
        """Kill the actors that work for `store`; each is made anew for the next call."""
        with self._free:
            held = [slot for slot in self._slots if slot.busy and slot.store is store]
            for slot in held:
                slot.stopped = True
                ray.kill(slot.actor)
        return bool(held)

    def close(self) -> None:
        """Kill the actors, and the cluster where this runtime started it."""
        for slot in self._slots:
            ray.kill(slot.actor)
        self._slots, self._references = [], OrderedDict()
        if self._owner:
            ray.shutdown()

    def _on(self, slot: _Slot, request: CallRequest, store: ArrayStore) -> CallResult | ToolError:
        handles = self._needs(request)
        try:
            references = [self._reference(handle, store) for handle in handles]
        except ToolFailure as missing:
            return failed(request, missing.error)
        digests = [handle.digest for handle in handles]
        try:
            text, arrays = ray.get(
                slot.actor.execute.remote(request.model_dump_json(), digests, *references),
                timeout=self._timeout_s,
            )
        except ray.exceptions.GetTimeoutError:
            self._renew(slot)
            message = f"{request.tool} took longer than {self._timeout_s:g} s and was stopped."
            return ToolError(code="timeout", message=message)
        except ray.exceptions.RayError as error:
            self._renew(slot)
            with self._free:
                self._references.clear()  # one of them may be what was lost
            message = f"The worker of {request.tool} was lost ({type(error).__name__})."
            return ToolError(code="worker_lost", message=message)
        for array in arrays.values():
            store.put(array)
        return CallResult.model_validate_json(text)

    @staticmethod
    def _needs(request: CallRequest) -> list[ArrayHandle]:
        """The image and the arrays of the inputs, each once."""
        found = [request.image.pixels, *handles_in(dict(request.inputs))]
        return list({handle.digest: handle for handle in found}.values())

    def _reference(self, handle: ArrayHandle, store: ArrayStore) -> Any:
        with self._free:
            if handle.digest not in self._references:
                array = stored(store, handle)
                self._references[handle.digest] = (ray.put(array), array.nbytes)
            self._references.move_to_end(handle.digest)
            while len(self._references) > 1 and self._held() > _KEPT_BYTES:
                self._references.popitem(last=False)
            return self._references[handle.digest][0]

    def _held(self) -> int:
        return sum(size for _, size in self._references.values())

    def _take(self, image: str, store: ArrayStore) -> _Slot:
        with self._free:
            while not (idle := [slot for slot in self._slots if not slot.busy]):
                self._free.wait()
            slot = next((slot for slot in idle if image in slot.images), idle[0])
            slot.busy, slot.store, slot.stopped = True, store, False
            return slot

    def _give(self, slot: _Slot, image: str) -> None:
        with self._free:
            slot.busy, slot.store = False, None
            slot.images[image] = None
            slot.images.move_to_end(image)
            while len(slot.images) > _KEPT_IMAGES:
                slot.images.popitem(last=False)
            self._free.notify()

    def _renew(self, slot: _Slot) -> None:
        ray.kill(slot.actor)
        slot.actor = self._new_actor()
        slot.images.clear()

    def _new_actor(self) -> Any:
        return self._actor.remote(self._threads)
