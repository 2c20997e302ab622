"""Masks and boxes as GeoJSON that QuPath 0.5 and later imports (File > Import objects from file).

Field by field as QuPath's `QuPathTypeAdapters` reads it: `objectType`, `classification`,
`measurements` as an object of numbers, `metadata` (since 0.5) as an object of strings. Regions and
boxes are annotations, instances are detections. Coordinates are full-resolution px of the file, so
that the objects of a region or of a lower level fall into place on the whole slide.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.output.layers import Box, Layer
from agent.output.outline import Polygon, Ring, outlines
from agent.output.palette import BOX_COLOUR, Colour, colours, name_of, told_apart

Feature = dict[str, Any]
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "histopilot:geojson")


@dataclass(frozen=True)
class Placement:
    """Where the image that was looked at lies in its file.

    Attributes:
        origin: x, y of its top left corner, in full-resolution px (`LoadedImage.origin`).
        downsample: full-resolution px for a px of it (`LoadedImage.downsample`).
    """

    origin: tuple[int, int] = (0, 0)
    downsample: float = 1.0


WHOLE = Placement()


def feature_collection(
    layers: Sequence[Layer],
    boxes: Sequence[Box],
    mpp: float | None,
    image_name: str,
    place: Placement = WHOLE,
) -> dict[str, Any]:
    """A GeoJSON FeatureCollection (RFC 7946 in structure; px instead of degrees).

    Args:
        layers: masks. A semantic layer is one feature, of each instance layer each instance is.
        boxes: bounding boxes.
        mpp: µm/px of the layers, for areas in µm²; None gives areas in px² of the layers.
        image_name: goes into the features' ids only, so that two images' objects never share one.
        place: of the image in its file.

    Returns:
        Plain data for `json.dumps`. The same content has the same ids.
    """
    layers = told_apart(layers)
    palette = colours(layers)
    features: list[Feature] = []
    for layer in layers:
        regions = outlines(layer.labels)
        areas = np.bincount(layer.labels.ravel())
        for label, polygons in regions.items():
            name = layer.title if layer.kind == "semantic" else name_of(layer, label)
            measurements = _area(int(areas[label]), mpp)
            if layer.confidence is not None:
                # StarDist's name in QuPath, so its thresholding scripts work here too.
                confidence = round(float(layer.confidence[label - 1]), 4)
                measurements["Detection probability"] = confidence
            features.append(
                _feature(layer.call, name, layer.kind, polygons, palette[name], measurements)
            )
    features += [_box(box, mpp) for box in boxes]
    if place != WHOLE:
        for feature in features:
            _move(feature["geometry"], place)
    for feature, identity in zip(features, _ids(features, image_name), strict=True):
        feature["id"] = identity
    return {"type": "FeatureCollection", "features": features}


def _feature(
    call: str,
    name: str,
    kind: str,
    polygons: Sequence[Polygon],
    colour: Colour,
    measurements: dict[str, float],
) -> Feature:
    coordinates = [[_closed(ring) for ring in polygon] for polygon in polygons]
    single = len(coordinates) == 1
    properties: dict[str, Any] = {
        "objectType": "detection" if kind == "instance" else "annotation",
        "classification": {"name": name, "color": list(colour)},
        "isLocked": False,
        "measurements": measurements,
        "metadata": {"HistoPilot call": call},
    }
    if kind != "instance":
        properties["name"] = name
    return {
        "type": "Feature",
        "id": "",
        "geometry": {
            "type": "Polygon" if single else "MultiPolygon",
            "coordinates": coordinates[0] if single else coordinates,
        },
        "properties": properties,
    }


def _box(box: Box, mpp: float | None) -> Feature:
    x0, y0, x1, y1 = box.xyxy
    ring = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    area = _area((x1 - x0) * (y1 - y0), mpp)
    return _feature(box.call, "box", "box", [[ring]], BOX_COLOUR, area)


def _closed(ring: Ring) -> list[list[int]]:
    """First corner repeated at the end. RFC 7946's right-hand rule holds with y pointing down."""
    return [*ring.tolist(), ring[0].tolist()]


def _move(geometry: dict[str, Any], place: Placement) -> None:
    """From px of the image to full-resolution px of its file."""
    single = geometry["type"] == "Polygon"
    for polygon in [geometry["coordinates"]] if single else geometry["coordinates"]:
        polygon[:] = [
            (np.array(ring) * place.downsample + place.origin).round(2).tolist() for ring in polygon
        ]


def _area(pixels: int, mpp: float | None) -> dict[str, float]:
    if mpp is None:
        return {"Area px^2": float(pixels)}
    return {"Area µm^2": round(pixels * mpp * mpp, 4)}


def _ids(features: Sequence[Feature], image_name: str) -> Iterator[str]:
    """UUIDs (version 5) from the image's name and each feature's content and place."""
    for place, feature in enumerate(features):
        content = (feature["geometry"], feature["properties"])
        yield str(uuid.uuid5(_NAMESPACE, f"{image_name}|{place}|{content}"))
