"""What `histopilot ask` and its siblings do, apart from parsing options and printing JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.output.geojson import WHOLE, Placement
from agent.output.writer import writable, write_turn
from agent.phrase import load as load_phraser
from agent.planners import load as load_planner
from agent.planners.base import PlannerUnavailable
from agent.progress import Progress
from agent.record.trace import Listener
from agent.samples import sample_path
from agent.session import (
    Kit,
    Outcome,
    Thread,
    checked_instruction,
    checked_name,
    copy_trace,
    kept_thread,
)
from models.backends import LOADERS
from models.external.config import SLOTS, configured
from tools.errors import BadInput
from tools.image import LoadedImage, read_image
from tools.registry import DEFAULT_BACKENDS
from tools.runtime import LocalRuntime, Runtime

SAMPLE = Path("sample")


@dataclass(frozen=True)
class Source:
    """Where an image comes from, and how it is read. `path` None: the thread's image."""

    path: Path | None
    mpp: float | None = None
    region: tuple[int, int, int, int] | None = None
    level: int = 0

    def read(self) -> LoadedImage | None:
        """The image; the word `sample` stands for the one that comes with the package.

        Raises:
            BadInput: it can't be read.
        """
        if self.path is None:
            if self.mpp is not None or self.region is not None or self.level:
                raise BadInput("--mpp, --region and --level are of an image: give it too")
            return None
        path = sample_path() if self.path == SAMPLE and not self.path.exists() else self.path
        return read_image(path, mpp=self.mpp, region=self.region, level=self.level)


@dataclass(frozen=True)
class Job:
    """One `ask`: an image, an instruction, and where the results go."""

    source: Source
    instruction: str
    out: Path | None = None
    thread: str | None = None
    yes: bool = False

    def folder(self) -> Path:
        """The folder of the results: as given, else named after the image or the thread."""
        name = self.source.path.stem if self.source.path else self.thread
        return self.out or Path(f"histopilot-{name}")


@dataclass(frozen=True)
class Means:
    """Who plans, where calls run, and backends in place of the defaults, as `TOOL=NAME`.

    `phrase` is the name, at the endpoint of the environment, of the model that words the answers.
    """

    planner: str = "local"
    runtime: str = "local"
    backends: tuple[str, ...] = ()
    phrase: str | None = None

    def kit(self) -> Kit:
        """Load them.

        Raises:
            BadInput: one of the names is not known.
            ModelUnavailable: a production backend is not configured as it has to be.
            PlannerUnavailable: the planner's model is not there, or no endpoint is configured.
        """
        chosen = chosen_backends(self.backends, DEFAULT_BACKENDS, "--backend")
        planner = load_planner(self.planner)
        return Kit(planner, make_runtime(self.runtime), chosen, load_phraser(self.phrase))


def chosen_backends(
    choices: Sequence[str], given: Mapping[str, Sequence[str]], option: str
) -> dict[str, tuple[str, ...]]:
    """The `given` backends of each tool, with those of `choices` (`TOOL=NAME,NAME`) in place.

    Raises:
        BadInput: a choice (of the command line's `option`) names no tool or no backend.
        ModelUnavailable: a production backend is not configured as it has to be.
    """
    chosen = {tool: tuple(names) for tool, names in given.items()}
    for choice in choices:
        tool, _, names = choice.partition("=")
        listed = tuple(names.split(","))
        if tool not in chosen or not set(listed) <= set(LOADERS):
            raise BadInput(
                f"{option} {choice} is not TOOL=NAME; tools: {', '.join(chosen)}; "
                f"backends: {', '.join(LOADERS)}"
            )
        for name in SLOTS.keys() & set(listed):
            configured(name, SLOTS[name].entry)
        chosen[tool] = listed
    return chosen


def ask(job: Job, means: Means, *, quiet: bool = False) -> dict[str, Any]:
    """Answer a job, write its folder, and give what its `result.json` holds.

    Raises:
        BadInput: the image, the instruction, the thread or the folder can't be used.
        PlannerUnavailable: the planner's model is not there.
    """
    checked_instruction(job.instruction)
    if job.thread is not None:
        checked_name(job.thread)
    loaded = job.source.read()
    folder = writable(job.folder(), job.source.path)
    kit = means.kit()
    try:
        return answer(job, loaded, folder, kit, Progress(quiet).listen)
    finally:
        kit.runtime.close()


def answer(
    job: Job,
    loaded: LoadedImage | None,
    folder: Path,
    kit: Kit,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Answer a job whose image is read, with a kit that is loaded, into `folder`."""
    trace = _free(folder, "trace")
    name = job.thread
    thread = Thread(trace, kit, keep=False) if name is None else kept_thread(name, kit)
    outcome = _turn(thread, job, loaded, listener)
    copy_trace(outcome, trace)
    return write_turn(outcome, folder, trace.name, loaded.notes if loaded else ())


def make_runtime(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        BadInput: there is none.
    """
    if name == "local":
        return LocalRuntime()
    if name == "ray":
        from tools.ray_runtime import RayRuntime

        return RayRuntime.from_environment()
    raise BadInput(f"there is no runtime {name!r}; choose local or ray")


def pull() -> str:
    """Fetch the base model of the local planner where it is not there; says where it is.

    Raises:
        PlannerUnavailable: it can't be fetched.
    """
    from models.planner.base import converted_base
    from models.planner.fetch import BaseModelMissing

    try:
        return f"The planner's base model is in {converted_base(fetch=True)}"
    except BaseModelMissing as missing:
        raise PlannerUnavailable(str(missing)) from missing


def _turn(
    thread: Thread, job: Job, loaded: LoadedImage | None, listener: Listener | None
) -> Outcome:
    """The job's turn; with `--yes` every doubt is waved through, also an open one of this job."""
    same = thread.instruction == checked_instruction(job.instruction) and loaded is None
    if thread.question is not None and job.yes and same:
        outcome = thread.answer(True, listener)
    else:
        image = loaded.image if loaded else None
        place = Placement(loaded.origin, loaded.downsample) if loaded else WHOLE
        outcome = thread.ask(job.instruction, image, listener, place)
    while job.yes and outcome.answer["status"] == "needs_confirmation":
        outcome = thread.answer(True, listener)
    return outcome


def _free(folder: Path, name: str) -> Path:
    """`folder/name`, or with the first number that is free: a record is never written over."""
    number = 1
    while (path := folder / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return path
