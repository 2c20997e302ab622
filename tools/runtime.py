"""Where calls run: one interface, two runtimes with the same results.

`LocalRuntime` runs in this process, for one image at the command line. `RayRuntime` (in
`tools.ray_runtime`) runs on Ray actors, for chats and batches, and can enforce a time limit.
"""

from __future__ import annotations

from typing import Protocol

from tools.arrays import ArrayStore
from tools.execute import CallRequest, CallResult, execute


class Runtime(Protocol):
    """Runs calls. Safe to call from several threads at once."""

    name: str

    def execute(self, request: CallRequest, store: ArrayStore) -> CallResult:
        """Run one call; arrays are read from and put into `store`. Never raises for a tool."""
        ...

    def stop(self, store: ArrayStore) -> bool:
        """End the calls that run with this very store, where that is possible; says whether any."""
        ...

    def close(self) -> None:
        """Give its workers back. Nothing may be executed afterwards."""
        ...


class LocalRuntime:
    """Calls run in the calling thread. No time limit: a thread can't be stopped from outside."""

    name = "local"

    def execute(self, request: CallRequest, store: ArrayStore) -> CallResult:
        """Run one call here."""
        return execute(request, store)

    def stop(self, store: ArrayStore) -> bool:
        """A thread can't be stopped from outside: its call ends by itself."""
        del store
        return False

    def close(self) -> None:
        """Nothing to give back."""
