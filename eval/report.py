"""A score as sections: for the terminal, and with every failure for a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eval.baselines import Beside
from eval.cases import Case, Prediction
from eval.charts import bars, histogram, intervals, matrix
from eval.pages import RATE_HEAD, Section, counted, interval, pass_k_section, percent, rate_row
from eval.signatures import SIGNATURES
from eval.toolcalls import Score


def _baselines(result: Score, besides: Sequence[Beside]) -> Iterator[Sequence[str]]:
    yield "", "cases", "right", "95% interval", "ahead by", "95% interval", "p"
    yield "planner", str(result.n), percent(result.strict), interval(result.interval), "", "", ""
    for row in besides:
        it, own = row.comparison, row.interval
        share = (percent(own.strict), interval(own)) if own else ("–", "not planned")
        ahead = (percent(it.difference), interval(it), f"{it.p:.2g}") if it else ("", "", "")
        yield row.name, str(row.n), *share, *ahead


def score_sections(
    result: Score,
    besides: Sequence[Beside],
    predictions: Sequence[Prediction],
) -> Iterator[Section]:
    """A score with its baselines; what has no content is left out."""
    yield Section(
        "Strict score",
        f"{len(result.passed)} of {result.n} plans are right; {result.ordered} of these also keep "
        f"the accepted plan's order. Groups all right: {result.groups.all_right} of "
        f"{result.groups.n}. Below it baselines, and how far the planner is ahead of each on the "
        "cases that both planned, with McNemar's p.",
        list(_baselines(result, besides)),
    )
    rows = {"all": result.interval, **result.by_tag}
    yield Section(
        "Accuracy by category",
        "Cases by tag; a case may have several.",
        [RATE_HEAD, *(rate_row(name, value) for name, value in rows.items())],
        intervals(
            "Accuracy by category",
            [(f"{name} ({r.n})", r.strict, r.low, r.high) for name, r in rows.items()],
        ),
    )
    if result.groups.pass_k:
        yield pass_k_section("Paraphrases", "groups", result.groups.pass_k)
    layers = [(name, str(n), percent(n / result.n)) for name, n in result.layers.items()]
    yield Section("Layers passed", "", [("each after the last", "cases", "share"), *layers])
    if result.guardrails:
        guard = [rate_row(name, value) for name, value in result.guardrails.items()]
        yield Section("Guardrails", "", [RATE_HEAD, *guard])
    yield Section(
        "Confusion of tools",
        "Calls by expected tool (row) and given tool (column).",
        plot=matrix("Confusion of tools", result.confusion, [*SIGNATURES, "none"]),
    )
    if result.latency:
        it = result.latency
        seconds = [p.seconds for p in predictions if p.seconds is not None]
        text = f"Planning: p50 {it.p50:.3f} s, p95 {it.p95:.3f} s a case"
        yield Section("Planning time", text, plot=histogram("Planning time", seconds))
    if result.failures:
        counts = {str(code): count for code, count in result.codes.items()}
        yield Section("Failures", f"Failures: {counted(counts)}", plot=bars("Failures", counts))


def failure_section(result: Score, cases: Sequence[Case]) -> Section:
    """Every failed case: for reports; too long for a terminal."""
    words = {case.id: case.instruction for case in cases}
    failed = [
        (name, words[name], str(code), result.details[name])
        for name, code in result.failures.items()
    ]
    return Section("Every failure", "", [("case", "instruction", "code", "what differs"), *failed])
