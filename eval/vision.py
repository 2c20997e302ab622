"""`python -m eval vision`: nuclei and organ, measured on images that no training run saw."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage
from skimage.segmentation import relabel_sequential

from eval import organ
from eval.metrics import (
    Detection,
    aggregated_jaccard,
    bootstrap,
    dice,
    match_centres,
    panoptic_quality,
    r_squared,
    typed_detection,
)
from models.backend import ALL_NUCLEI, BackendInfo, Image, NucleiBackend, TissueBackend
from tools.errors import BadInput

TEST_MPP = 0.25
"""µm/px of both nucleus test sets."""
MATCH_RADIUS_UM = 3.0
"""Two nuclei are the same if their centroids are this close (12 px at 40x, as HoVer-Net has it)."""
TYPES = ("inflammatory cell", "epithelial cell", "spindle cell")
_CLASS_NAMES = {1: ALL_NUCLEI, 2: TYPES[0], 3: TYPES[1], 4: TYPES[2]}


@dataclass(frozen=True)
class Figure:
    """One measured figure with its 95% bootstrap interval.

    Attributes:
        task: what was measured on which set (`nuclei/monuseg`, `organ/external`).
        metric: its name.
        value: the figure.
        low: lower end of the interval, None where there is none.
        high: upper end of the interval.
        n: number of images.
    """

    task: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class NucleiCase:
    """What one image gave."""

    name: str
    pq: float
    aji: float
    dice: float
    found: Detection
    typed: dict[str, Detection]
    true: int
    counted: int
    seconds: float


def _labels(path: Path) -> tuple[npt.NDArray[np.int32], list[int]]:
    """A label map numbered without gaps, and the numbers that its instances had in the file."""
    raw = np.asarray(Pillow.open(path)).astype(np.int32)
    labels, _, back = relabel_sequential(raw)
    return labels.astype(np.int32), np.asarray(back)[1:].tolist()


def _centres(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    n = int(labels.max(initial=0))
    return np.asarray(
        ndimage.center_of_mass(labels > 0, labels, np.arange(1, n + 1)), np.float64
    ).reshape(n, 2)


def score_image(backend: NucleiBackend, folder: Path, stem: str) -> NucleiCase:
    """Find all nuclei of one test image and compare; types where the set and the backend know any.

    Args:
        backend: under test.
        folder: of the set.
        stem: of the image's file name.
    """
    truth, numbers = _labels(folder / "labels" / f"{stem}.png")
    rgb = np.asarray(Pillow.open(folder / "images" / f"{stem}.jpg").convert("RGB"))
    began = time.perf_counter()
    answer = backend.nuclei(Image(rgb, TEST_MPP), ALL_NUCLEI)
    seconds = time.perf_counter() - began
    pairs = match_centres(_centres(truth), _centres(answer.labels), MATCH_RADIUS_UM / TEST_MPP)
    n, m = len(numbers), int(answer.labels.max(initial=0))
    typed: dict[str, Detection] = {}
    classes = folder / "classes.json"
    if classes.exists() and any(name in backend.cells for name in TYPES):
        known = jsonlib.loads(classes.read_text(encoding="utf-8"))["instances"][stem]
        names = [_CLASS_NAMES[known[str(number)]] for number in numbers]
        typed = {kind: typed_detection(names, answer.kinds, pairs, kind) for kind in TYPES}
    return NucleiCase(
        name=stem,
        pq=panoptic_quality(truth, answer.labels).pq,
        aji=aggregated_jaccard(truth, answer.labels),
        dice=dice(truth > 0, answer.labels > 0),
        found=Detection(len(pairs), m - len(pairs), n - len(pairs)),
        typed=typed,
        true=n,
        counted=m,
        seconds=seconds,
    )


def pooled(
    detections: list[Detection], metric: str = "f1"
) -> Callable[[npt.NDArray[np.int64]], float]:
    """A statistic of drawn images: `f1`, `precision` or `recall` of all their detections."""

    def statistic(indices: npt.NDArray[np.int64]) -> float:
        return float(getattr(sum((detections[i] for i in indices), Detection(0, 0, 0)), metric))

    return statistic


def _mean(values: list[float]) -> Callable[[npt.NDArray[np.int64]], float]:
    return lambda indices: float(np.mean([values[i] for i in indices]))


def nuclei_figures(task: str, cases: list[NucleiCase]) -> list[Figure]:
    """The figures of one set; intervals by image (its test images are one a patient or close)."""
    statistics = {
        "PQ": _mean([case.pq for case in cases]),
        "AJI": _mean([case.aji for case in cases]),
        "Dice": _mean([case.dice for case in cases]),
        "detection F1": pooled([case.found for case in cases]),
        "count error": _mean([abs(case.counted - case.true) / case.true for case in cases]),
        "seconds": _mean([case.seconds for case in cases]),
    }
    for kind in TYPES if cases[0].typed else ():
        statistics[f"{kind} F1"] = pooled([case.typed[kind] for case in cases])
    figures = [
        figure(task, metric, statistic, [case.name for case in cases])
        for metric, statistic in statistics.items()
    ]
    if len({case.true for case in cases}) > 1:
        r2 = r_squared([case.true for case in cases], [case.counted for case in cases])
        figures.append(Figure(task, "count R²", r2, None, None, len(cases)))
    return figures


def figure(
    task: str,
    metric: str,
    statistic: Callable[[npt.NDArray[np.int64]], float],
    groups: list[str],
) -> Figure:
    """A figure over all images, with its interval from drawing whole `groups`."""
    low, high = bootstrap(groups, statistic)
    return Figure(task, metric, statistic(np.arange(len(groups))), low, high, len(groups))


def tissue_figures(cases: list[organ.TissueCase]) -> list[Figure]:
    """Organ figures on other sources; intervals by patient, slide or near-duplicate cluster."""
    groups = [case.group for case in cases]
    found = organ.statistics(cases)
    return [figure(organ.TASK, name, statistic, groups) for name, statistic in found.items()]


def _some(items: list[Any], limit: int | None) -> list[Any]:
    if limit is None or limit >= len(items):
        return items
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, limit)]


def load_backends(name: str) -> list[Any]:
    """The backends to measure: `default` is the trained ones; a `.safetensors` path its network."""
    if name.endswith(".safetensors"):
        from models.vision.nuclei import FlowNuclei

        return [FlowNuclei(Path(name))]
    from models.backends import LOADERS, load

    if name == "mitosis":
        raise BadInput("The mitotic figures are measured by `python -m eval.mitosis`.")
    if name == "default":
        return [load(trained) for trained in ("flow", "probe")]
    if name not in LOADERS:
        raise BadInput(f"No backend {name!r}. There are: default, {', '.join(sorted(LOADERS))}.")
    return [load(name)]


def measure(backend: Any, data: Path, limit: int | None) -> list[Figure]:
    """Every figure that `backend` can be measured on, with at most `limit` images a set."""
    figures: list[Figure] = []
    if isinstance(backend, NucleiBackend) and ALL_NUCLEI in backend.cells:
        for name in ("monuseg", "consep"):
            folder = data / "nuclei" / "test" / name
            stems = _some(sorted(path.stem for path in (folder / "images").iterdir()), limit)
            steps = track(stems, name, console=Console(stderr=True), transient=True)
            cases = [score_image(backend, folder, stem) for stem in steps]
            figures += nuclei_figures(f"nuclei/{name}", cases)
    if isinstance(backend, TissueBackend):
        rows = _some(organ.external_rows(data), limit)
        steps = track(rows, "organ", console=Console(stderr=True), transient=True)
        figures += tissue_figures(list(organ.tissue_cases(backend, data, steps)))
    return figures


def printed(
    measured: Sequence[tuple[BackendInfo, Sequence[Figure]]],
    limit: int | None = None,
    **more: str,
) -> None:
    """Print backends' figures as JSON, as `python -m models.train figures` reads them.

    Args:
        measured: each backend with its figures.
        limit: at most so many images a set were looked at.
        more: the `command` that measures, where it is not `python -m eval vision`.
    """
    reports = [
        {"info": asdict(info), "figures": [asdict(one) for one in figures]}
        for info, figures in measured
    ]
    whole = {**more, "backends": reports, "limit": limit}
    print(jsonlib.dumps(whole, indent=1, ensure_ascii=False))


def show(figures: Sequence[Figure], title: str = "") -> None:
    """Print `figures` as a table."""
    table = Table(title=title or None)
    for column in ("task", "metric", "value", "95% interval", "n"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for f in figures:
        interval = "" if f.low is None else f"{f.low:.3f} to {f.high:.3f}"
        table.add_row(f.task, f.metric, f"{f.value:.3f}", interval, str(f.n))
    Console().print(table)


def vision(
    data: Path, backend: str = "default", json: bool = False, limit: int | None = None
) -> None:
    """Measure vision backends on `nuclei/test` and on the external organ images, and print it.

    Args:
        data: folder that holds `nuclei/test/<set>` and `tissue/manifest.csv`.
        backend: `default` (the trained ones), a name of `models.backends`, or the path of a
            `.safetensors` file of the nucleus network.
        json: print one JSON object instead of tables.
        limit: at most so many images a set.

    Raises:
        BadInput: there is no such backend or no such data.
    """
    if not (data / "nuclei" / "test").is_dir():
        raise BadInput(f"{data} holds no nuclei/test; give the folder of the data.")
    measured = []
    for loaded in load_backends(backend):
        figures = measure(loaded, data, limit)
        measured.append((loaded.info, figures))
        if not json:
            show(figures, f"{loaded.info.name} {loaded.info.version}")
    if json:
        printed(measured, limit)
