"""What a tool is: typed arguments, a typed output, one `run`, one sentence about what came out.

A tool's class is checked when it is defined, so a tool that a planner could not be shown, or whose
output could not be recorded, does not import.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.backend import BackendInfo, Image, Quality
from tools.arrays import ArrayHandle, ArrayStore
from tools.errors import BadInput, ToolError, ToolFailure

REFERENCE_PATTERN = r"^\$[1-9][0-9]*$"


@dataclass(frozen=True)
class Accepts:
    """Marks an argument as a reference, and names the tools whose calls it may refer to."""

    tools: frozenset[str]

    def __init__(self, *tools: str) -> None:
        object.__setattr__(self, "tools", frozenset(tools))


Reference = Annotated[str, Field(pattern=REFERENCE_PATTERN)]
Within = Annotated[
    Reference | None,
    Accepts("segment"),
    Field(
        description="Reference to an earlier call whose region restricts this one, "
        'for example "$1".'
    ),
]
Outside = Annotated[
    Reference | None,
    Accepts("segment"),
    Field(description="Reference to an earlier call whose region is excluded."),
]
Source = Annotated[
    Reference,
    Accepts("segment", "count_nuclei"),
    Field(description="Reference to the earlier call to work on."),
]


class Arguments(BaseModel):
    """Base of every tool's arguments: closed, frozen, no coercion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def references(cls) -> dict[str, frozenset[str]]:
        """The arguments that are references, with the tools that each may refer to."""
        found = {}
        for name, field in cls.model_fields.items():
            for mark in field.metadata:
                if isinstance(mark, Accepts):
                    found[name] = mark.tools
        return found


class Output(BaseModel):
    """Base of every tool's output: plain JSON; arrays only as `ArrayHandle`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class QualityNote(BaseModel):
    """A backend's measured figure for one concept, as `models.backend.Quality`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    value: float
    dataset: str
    n: int

    @classmethod
    def of(cls, quality: Quality | None) -> QualityNote | None:
        """The note of a figure, None where nothing was measured."""
        if quality is None:
            return None
        return cls(metric=quality.metric, value=quality.value, dataset=quality.dataset, n=quality.n)


A = TypeVar("A", bound=Arguments)
O = TypeVar("O", bound=Output)  # noqa: E741 - the pair reads as arguments and output


@dataclass(frozen=True)
class Scene:
    """What a running call may look at.

    Attributes:
        image: the thread's image.
        inputs: outputs of the calls that the arguments refer to, by argument name.
        store: holds the arrays behind the inputs' handles and takes the new ones.
        backend: the vision backend that was chosen for this call, None for tools without one.
    """

    image: Image
    inputs: Mapping[str, Output]
    store: ArrayStore
    backend: Any = None

    def array(self, handle: ArrayHandle) -> npt.NDArray[Any]:
        """The array behind a handle.

        Raises:
            ToolFailure: as `stored`.
        """
        return stored(self.store, handle)


def able(backends: Mapping[str, Any], protocol: type) -> str:
    """The first of `backends` that implements `protocol` (of `models.backend`).

    Raises:
        ToolFailure: none does.
    """
    for name, backend in backends.items():
        if isinstance(backend, protocol):
            return name
    asked = ", ".join(backends)
    message = f"None of the backends asked ({asked}) can do this."
    raise ToolFailure(ToolError(code="outside_vocabulary", message=message))


def stored(store: ArrayStore, handle: ArrayHandle) -> npt.NDArray[Any]:
    """The array behind a handle.

    Raises:
        ToolFailure: the store has no such array, or a damaged one (an incomplete thread or trace).
    """
    try:
        return store.get(handle.digest)
    except KeyError:
        message = f"The array {handle.digest[:12]} that this call needs is not there."
    except BadInput as damage:
        message = f"This call can't be run: {damage}."
    raise ToolFailure(ToolError(code="no_input", message=message))


class Tool(ABC, Generic[A, O]):
    """One typed tool. Subclasses set the class attributes and `run`; all are checked at definition.

    Attributes:
        name: as in the contract.
        version: changes whenever `run` could give another output for the same inputs.
        description: what a planner is told.
        arguments: the arguments' model.
        output: the output's model.
        for_planners: False for steps that the graph itself takes (the H&E check).
    """

    name: ClassVar[str]
    version: ClassVar[str]
    description: ClassVar[str]
    arguments: type[A]
    output: type[O]
    for_planners: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for attribute in ("name", "version", "description", "arguments", "output"):
            if not getattr(cls, attribute, None):
                raise TypeError(f"{cls.__name__} has no {attribute}")
        if not issubclass(cls.arguments, Arguments) or not issubclass(cls.output, Output):
            raise TypeError(f"{cls.__name__}: arguments and output derive from Arguments, Output")
        for name, field in cls.arguments.model_fields.items():
            if name != "kind" and cls.for_planners and not (field.description or name == "text"):
                raise TypeError(f"{cls.__name__}: the argument {name} has no description")
        json.dumps(cls.output.model_json_schema(mode="serialization"))

    def choose_backend(self, args: A, backends: Mapping[str, Any]) -> str | None:
        """Name the backend of `backends` (in order of preference) that will answer `args`.

        None for a tool that needs no backend.

        Raises:
            ToolFailure: none of them knows what is asked for (`outside_vocabulary`).
        """
        del args, backends
        return None

    @abstractmethod
    def run(self, args: A, scene: Scene) -> O:
        """Do it.

        Raises:
            ToolFailure: with the typed error, where no truthful output is possible.
        """

    @abstractmethod
    def sentence(self, args: A, output: O, names: Mapping[str, str]) -> str:
        """One or two sentences about `output`; `names` gives the words for each reference.

        Every number in it is a field of `output`.
        """

    @abstractmethod
    def line(self, args: A, output: O) -> str:
        """What came out in a few words: what the next turn's planner is shown of it."""

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """The tool as one entry of an OpenAI `tools` array, in strict form."""
        properties = {}
        for name, field in cls.arguments.model_json_schema()["properties"].items():
            properties[name] = _flat(field)
        return {
            "type": "function",
            "function": {
                "name": cls.name,
                "description": cls.description,
                "strict": True,
                "parameters": {
                    "type": "object",
                    "properties": properties,
                    "required": list(properties),
                    "additionalProperties": False,
                },
            },
        }


def _flat(field: dict[str, Any]) -> dict[str, Any]:
    """One JSON-schema property without titles and defaults, `null` folded into its type."""
    flat: dict[str, Any] = {}
    for option in field.pop("anyOf", []):
        if option["type"] == "null":
            flat["type"] = [flat["type"], "null"]
        else:
            flat |= option
    flat |= {key: value for key, value in field.items() if key not in ("title", "default")}
    return flat


def searched(scene: Scene) -> npt.NDArray[np.bool_] | None:
    """Where a call may look: within and not outside; None stands for the whole image."""
    result: npt.NDArray[np.bool_] | None = None
    for name in ("within", "outside"):
        if name in scene.inputs:
            region = scene.array(scene.inputs[name].mask) > 0  # type: ignore[attr-defined]
            part = region if name == "within" else ~region
            result = part if result is None else result & part
    return result


class BackendNote(BaseModel):
    """Who answered: the part of `models.backend.BackendInfo` that outputs and traces carry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    licence: str
    weights: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, info: BackendInfo) -> BackendNote:
        """The note of a backend."""
        return cls(
            name=info.name,
            version=info.version,
            licence=info.licence,
            weights=dict(info.weights),
        )
