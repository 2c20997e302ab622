"""Colours for classes: told apart by colour-blind people, and seen on pink and purple."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from agent.output.layers import Layer

Colour = tuple[int, int, int]

# The hues of Okabe & Ito, "Color Universal Design" (2008), without reddish purple, which is the
# stain. Thin nuclear contours need the bright ones first; region contours have a white casing and
# take the dark ones, so that regions and nuclei differ in lightness too.
_INSTANCES: tuple[Colour, ...] = (
    (255, 225, 30),  # yellow
    (70, 205, 255),  # sky blue
    (0, 225, 150),  # bluish green
    (255, 150, 20),  # orange
    (255, 255, 255),  # white
    (0, 114, 255),  # blue
    (20, 20, 20),  # black
    (225, 60, 20),  # vermilion
)
_REGIONS: tuple[Colour, ...] = (
    (0, 70, 190),  # blue
    (200, 72, 0),  # vermilion
    (0, 128, 96),  # bluish green
    (20, 20, 20),  # black
    (170, 125, 0),  # orange
    (40, 140, 200),  # sky blue
)
BOX_COLOUR: Colour = (20, 20, 20)


def class_names(layer: Layer) -> tuple[str, ...]:
    """What a layer's parts are called: its title, or the types where instances have several."""
    kinds = tuple(sorted(set(layer.kinds)))
    return kinds if len(kinds) > 1 else (layer.title,)


def name_of(layer: Layer, instance: int) -> str:
    """The class name of label `instance` (from 1) of a layer."""
    names = class_names(layer)
    return layer.kinds[instance - 1] if len(names) > 1 else names[0]


def told_apart(layers: Sequence[Layer]) -> list[Layer]:
    """The layers, with the call in the names of those that share one: `"nucleus ($2)"`."""
    holders = Counter(name for layer in layers for name in class_names(layer))
    apart = []
    for layer in layers:
        if all(holders[name] == 1 for name in class_names(layer)):
            apart.append(layer)
            continue
        kinds = tuple(f"{kind} ({layer.call})" for kind in layer.kinds)
        apart.append(replace(layer, title=f"{layer.title} ({layer.call})", kinds=kinds))
    return apart


def colours(layers: Sequence[Layer]) -> dict[str, Colour]:
    """A colour for each class name, in order of appearance; a long list repeats them."""
    found: dict[str, Colour] = {}
    for kind, choice in (("semantic", _REGIONS), ("instance", _INSTANCES)):
        names = dict.fromkeys(
            name for layer in layers if layer.kind == kind for name in class_names(layer)
        )
        new = [name for name in names if name not in found]
        found |= {name: choice[place % len(choice)] for place, name in enumerate(new)}
    return found
