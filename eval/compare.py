"""Two planners on the same cases, and one planner on the same cases several times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from eval.cases import Case, Prediction
from eval.matching import judge
from eval.pages import Section, interval, percent
from eval.stats import PassK, bootstrap_mean, clusters, mcnemar, pass_k
from eval.toolcalls import by_id
from eval.verdict import UNSCORED


class Comparison(BaseModel):
    """Planner B against planner A, on the cases that both were scored on.

    Attributes:
        n: how many cases those are.
        left_out: ids of the others.
        a: share that A passed, 0..1.
        b: share that B passed, 0..1.
        difference: b - a.
        low: lower end of the difference's 95% interval (paired bootstrap by group).
        high: upper end.
        only_a: ids of the cases that only A passed.
        only_b: ids of the cases that only B passed.
        p: two-sided, of McNemar's exact test.
    """

    model_config = ConfigDict(frozen=True)

    n: int
    left_out: list[str]
    a: float
    b: float
    difference: float
    low: float
    high: float
    only_a: list[str]
    only_b: list[str]
    p: float


def trials(
    cases: Sequence[Case], runs: Sequence[Sequence[Prediction]]
) -> list[tuple[Case, list[bool | None]]]:
    """For each case, whether each run passed it; None where a run has no plan to score.

    Raises:
        BadInput: a run's prediction is for no case, or for one twice.
    """
    given = [by_id(cases, run) for run in runs]
    found = []
    for case in cases:
        verdicts = [judge(case, run.get(case.id)) for run in given]
        found.append((case, [None if v.code in UNSCORED else v.passed for v in verdicts]))
    return found


def consistency(cases: Sequence[Case], runs: Sequence[Sequence[Prediction]]) -> list[PassK]:
    """pass^k of one planner that was run several times (other seeds) over `cases`.

    Raises:
        BadInput: as `trials`.
    """
    return pass_k(
        [(case, [ok for ok in passes if ok is not None]) for case, passes in trials(cases, runs)]
    )


def compare(
    cases: Sequence[Case], first: Sequence[Prediction], second: Sequence[Prediction]
) -> Comparison | None:
    """Compare the planner of `second` (B) with that of `first` (A); None without a common case.

    Raises:
        BadInput: as `trials`.
    """
    both = [(case, a, b) for case, (a, b) in trials(cases, (first, second))]
    pairs = [(case, a, b) for case, a, b in both if a is not None and b is not None]
    if not pairs:
        return None
    only_a = [case.id for case, a, b in pairs if a and not b]
    only_b = [case.id for case, a, b in pairs if b and not a]
    clustered = clusters([(case, float(b) - float(a)) for case, a, b in pairs])
    low, high = bootstrap_mean(clustered, least=-1.0)
    n = len(pairs)
    return Comparison(
        n=n,
        left_out=[case.id for case, a, b in both if a is None or b is None],
        a=sum(a for _, a, _ in pairs) / n,
        b=sum(b for _, _, b in pairs) / n,
        difference=(len(only_b) - len(only_a)) / n,
        low=low,
        high=high,
        only_a=only_a,
        only_b=only_b,
        p=mcnemar(len(only_a), len(only_b)),
    )


def sections(it: Comparison) -> Iterator[Section]:
    """Two planners on the same cases."""
    figures = {
        "cases that both were scored on": str(it.n),
        "left out": str(len(it.left_out)),
        "A right": percent(it.a),
        "B right": percent(it.b),
        "B - A, 95% interval": f"{percent(it.difference)}, {interval(it)}",
        "only A right": str(len(it.only_a)),
        "only B right": str(len(it.only_b)),
        "p, McNemar": f"{it.p:.2g}",
    }
    yield Section("B against A", "", [("", ""), *figures.items()])
    alone = [("A", name) for name in it.only_a] + [("B", name) for name in it.only_b]
    if alone:
        yield Section("Right in one alone", "", [("planner", "case"), *alone])
