"""Intervals, pass^k and the comparison of two planners against known values."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.cases import Case, Prediction
from eval.compare import compare, consistency
from eval.stats import mcnemar, pass_hat_k, pass_k, rate, wilson

CALLS = [{"tool": "segment", "args": {"target": "tumor"}}]


def case(name: str, group: str | None = None) -> Case:
    row = {"id": name, "instruction": "i", "expect": {"calls": CALLS}, "group": group}
    return Case.model_validate(row)


def planned(name: str, ok: bool | None) -> Prediction:
    if ok is None:
        return Prediction(id=name, calls=[], error="no connection", unavailable=True)
    calls: Any = CALLS if ok else [{"tool": "count_nuclei", "args": {}}]
    return Prediction(id=name, calls=calls)


def test_intervals() -> None:
    low, high = wilson(8, 10)  # Agresti & Coull, The American Statistician 52, 1998: 0.490..0.943
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    single = [(case(str(n)), n < 8) for n in range(10)]
    assert rate(single).method == "wilson"
    assert (rate(single).low, rate(single).high) == (low, high)
    # Ten groups of five that stand and fall together carry ten observations, not fifty.
    grouped = [(case(f"{g}-{n}", str(g)), g < 8) for g in range(10) for n in range(5)]
    clustered = rate(grouped)
    naive = wilson(40, 50)
    assert clustered.method == "bootstrap"
    assert clustered.low <= 0.8 <= clustered.high
    assert clustered.high - clustered.low > 1.5 * (naive[1] - naive[0])
    assert rate(grouped) == clustered
    all_right = rate([(one, True) for one, _ in grouped])
    assert (all_right.low, all_right.high) == wilson(10, 10)


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_hat_k_is_the_share_of_draws_of_k_that_all_passed(
    passes: list[bool], data: Any
) -> None:
    k = data.draw(st.integers(1, len(passes)))
    draws = list(itertools.combinations(passes, k))
    share = sum(all(draw) for draw in draws) / len(draws)
    assert pass_hat_k(len(passes), sum(passes), k) == pytest.approx(share)


def test_what_was_not_scored_is_neither_right_nor_wrong_but_is_told() -> None:
    values = pass_k([(case("a"), [True, True, False]), (case("b"), [True]), (case("c"), [])])
    first, second, third = values
    assert (first.value, first.n, first.of) == (pytest.approx((2 / 3 + 1) / 2), 2, 3)
    assert (second.value, second.n) == (pytest.approx(1 / 3), 1)
    assert (third.value, third.n) == (0.0, 1)
    assert (third.low, third.high) == wilson(0, 1)


def test_a_run_without_its_planner_is_no_trial() -> None:
    cases = [case("a"), case("b")]
    runs = [
        [planned("a", True), planned("b", False)],
        [planned("a", True), planned("b", None)],
        [planned("a", True)],
    ]
    values = consistency(cases, runs)
    assert [(it.value, it.n) for it in values] == [(0.5, 2), (1.0, 1), (1.0, 1)]


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 8) == mcnemar(8, 1) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(3, 3) == 1.0


def test_comparison_counts_only_what_both_were_scored_on() -> None:
    cases = [case(str(n)) for n in range(12)]
    first = [planned(str(n), n < 2) for n in range(11)]
    second = [planned(str(n), n < 9 if n != 10 else None) for n in range(12)]
    found = compare(cases, first, second)
    assert found is not None
    assert (found.n, found.left_out) == (10, ["10", "11"])
    assert (found.a, found.b, found.difference) == (0.2, 0.9, pytest.approx(0.7))
    assert (found.only_a, found.only_b) == ([], [str(n) for n in range(2, 9)])
    assert found.low <= 0.7 <= found.high
    assert found.low > 0
    assert found.p == pytest.approx(2 / 2**7)
    assert compare(cases, [], second) is None


def test_a_comparison_without_a_difference_is_no_proof_of_equality() -> None:
    cases = [case(str(n)) for n in range(20)]
    same = [planned(str(n), n < 10) for n in range(20)]
    found = compare(cases, same, same)
    assert found is not None
    assert (found.difference, found.p) == (0.0, 1.0)
    assert found.high == -found.low > 0.1


@pytest.mark.parametrize("ahead", [True, False])
def test_a_planner_ahead_in_every_case_is_so_within_an_interval(ahead: bool) -> None:
    cases = [case(str(n)) for n in range(10)]
    runs = [[planned(one.id, ok) for one in cases] for ok in (not ahead, ahead)]
    found = compare(cases, *runs)
    assert found is not None
    ends = (wilson(10, 10)[0], 1.0)
    assert (found.low, found.high) == pytest.approx(ends if ahead else (-1.0, -ends[0]))


def test_shares_that_are_all_alike_have_an_interval_too() -> None:
    (first, second) = pass_k([(case(str(n)), [True, False]) for n in range(8)])
    assert (first.low, first.high) == pytest.approx((0.5 - wilson(0, 8)[1], 0.5 + wilson(0, 8)[1]))
    assert (second.low, second.high) == pytest.approx(wilson(0, 8))


def test_grouped_cases_widen_the_interval_of_a_difference() -> None:
    apart = [case(f"{g}-{n}") for g in range(8) for n in range(5)]
    grouped = [case(f"{g}-{n}", str(g)) for g in range(8) for n in range(5)]
    first = [planned(one.id, False) for one in apart]
    second = [planned(one.id, int(one.id[0]) < 4) for one in apart]
    narrow, wide = (compare(cases, first, second) for cases in (apart, grouped))
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
