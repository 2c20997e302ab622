"""A load test of the demo on the loopback: many users, each with an image of their own.

`python -m tests.agent.demo_load [--users 32] [--seconds 120]` serves the demo in a process of its
own (planner `rules`, classical backends, two turns at once) and prints a table. A program asks and
asks on (`/ask_image`, `/ask_on`); every answer must be about the image of who asked. After a round
of questions it opens its image anew. Where a turn waits, the server sends a sign of life every 15
seconds, so only the requests that begin something have a time limit: a minute.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image as Pillow

from agent.demo import door
from agent.demo.app import serve
from agent.demo.desk import Desk
from agent.planners import load
from agent.samples import sample_path
from agent.session import Kit
from models.backend import array_digest
from tests.agent.demo_server import quick_kit
from tools.image import read_image
from tools.runtime import LocalRuntime

QUESTIONS = ("outline the tissue", "count the nuclei", "now box them", "how large are they?")
SIDE = 200
THINK_S = 2.0
SAMPLE_S = 2.0
REQUEST_S = 60.0


@dataclass
class Tally:
    """What the users saw.

    Attributes:
        waits: seconds to each answer.
        turns: how many answers each user got.
        errors: in words.
        strangers: answers about another's image.
        memory: MiB of the server over time.
        load: of the machine before it began.
    """

    waits: list[float] = field(default_factory=list)
    turns: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    strangers: int = 0
    memory: list[float] = field(default_factory=list)
    load: float = 0.0


def server(address: Any, planner: str | None) -> None:
    """Serve the demo without limits for one address; tells its URL."""
    free = (10**9, 1.0)
    door.LIMITS["/gradio_api/upload"] = free
    kit = quick_kit(LocalRuntime()) if planner is None else Kit(load(planner), LocalRuntime())
    desk = Desk(kit, opened=free, asked=free)
    _, url = serve(desk, ("127.0.0.1", None), quiet=True)
    address.put(url)
    threading.Event().wait()


@contextmanager
def served_apart(planner: str | None = None) -> Iterator[tuple[str, int]]:
    """The address of a demo in a process of its own, and the process's number.

    `planner` None is quick: rules, and the classical backends.
    """
    context = multiprocessing.get_context("spawn")
    address = context.Queue()
    process = context.Process(target=server, args=(address, planner), daemon=True)
    process.start()
    try:
        yield address.get(timeout=300), process.pid or 0
    finally:
        process.terminate()


def user(number: int, client: Client, picture: Path, until: float, tally: Tally) -> None:
    """Open an image and ask about it, again and again."""
    pause = random.Random(number)  # noqa: S311 - no secret
    own = array_digest(np.asarray(Pillow.open(picture)))
    key = None
    while time.monotonic() < until:
        turn = tally.turns.get(number, 0) % len(QUESTIONS)
        words, key = QUESTIONS[turn], key if turn else None
        began = time.monotonic()
        try:
            if key is None:
                answer = client.predict(handle_file(picture), words, 0.5, api_name="/ask_image")
            else:
                answer = client.predict(key, words, api_name="/ask_on")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            tally.errors.append(f"{type(error).__name__}: {error}")
            continue
        tally.waits.append(time.monotonic() - began)
        tally.turns[number] = tally.turns.get(number, 0) + 1
        if answer["status"] != "completed":
            tally.errors.append(f"{answer['status']}: {answer['text']}")
        elif answer["image"]["sha256"] != own or key not in (None, answer["conversation"]):
            tally.strangers += 1
        key = answer["conversation"]
        time.sleep(pause.uniform(0, THINK_S))


def resident(pid: int) -> float:
    """MiB of a process in memory (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def pictures(count: int, folder: Path) -> list[Path]:
    """Parts of the sample, no two of them alike."""
    rgb = read_image(sample_path()).image.rgb
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        y, x = 500 + number, 350 + 8 * number
        Pillow.fromarray(rgb[y : y + SIDE, x : x + SIDE]).save(path)
    return paths


def run(users: int, seconds: float) -> Tally:
    """The load, and what the users saw."""
    tally = Tally(load=os.getloadavg()[0])
    with served_apart() as (url, pid), tempfile.TemporaryDirectory() as folder:
        limit = {"timeout": REQUEST_S}
        clients = [Client(url, verbose=False, httpx_kwargs=limit) for _ in range(users)]
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=user, args=(number, client, picture, until, tally))
            for number, (client, picture) in enumerate(
                zip(clients, pictures(users, Path(folder)), strict=True)
            )
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            tally.memory.append(resident(pid))
            time.sleep(SAMPLE_S)
    return tally


def main() -> None:
    """Run it and print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--users", type=int, default=32)
    options.add_argument("--seconds", type=float, default=120)
    chosen = options.parse_args()
    tally = run(chosen.users, chosen.seconds)
    p50, p95 = np.percentile(tally.waits, (50, 95))
    turns = [tally.turns.get(number, 0) for number in range(chosen.users)]
    points = np.quantile(range(len(tally.memory)), (0, 0.25, 0.5, 0.75, 1)).round().astype(int)
    grown = " → ".join(f"{tally.memory[point]:.0f}" for point in points)
    rows = {
        "users, seconds": f"{chosen.users}, {chosen.seconds:.0f}",
        "load of the machine before": f"{tally.load:.1f}",
        "turns answered": str(sum(turns)),
        "turns of a user, fewest and most": f"{min(turns)}, {max(turns)}",
        "errors": str(len(tally.errors)),
        "answers about another's image": str(tally.strangers),
        "seconds to an answer, p50, p95, longest": f"{p50:.2f}, {p95:.2f}, {max(tally.waits):.2f}",
        "the server's memory, five points in time": f"{grown} MiB",
    }
    print("| what | value |\n| --- | --- |")
    print("\n".join(f"| {what} | {value} |" for what, value in rows.items()))
    for error, times in Counter(tally.errors).most_common(5):
        print(f"{times} × {error}")


if __name__ == "__main__":
    main()
