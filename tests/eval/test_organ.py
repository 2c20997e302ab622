"""The organ's statistics: calibration, risk by coverage, the guard's recall."""

import numpy as np
import pytest

from eval.organ import TissueCase, calibration_error, recall_at, statistics

EVERYTHING = np.arange(4)


def cases():
    """Sure and right, sure and wrong, unsure and right, unsure and wrong; the sure are named."""
    return [
        TissueCase("colon", "colon", "colon", "1", 0.9),
        TissueCase("colon", "lung", "lung", "2", 0.8),
        TissueCase("lung", None, "lung", "3", 0.4),
        TissueCase("lung", None, "skin", "4", 0.3),
    ]


def test_the_curve_goes_from_the_surest_on():
    found = statistics(cases())
    assert found["error at coverage 25%"](EVERYTHING) == 0
    assert found["error at coverage 50%"](EVERYTHING) == 0.5
    assert found["error at coverage 100%"](EVERYTHING) == 0.5


def test_the_guard_is_judged_on_what_is_named():
    found = statistics(cases())
    assert found["coverage"](EVERYTHING) == 0.5
    assert found["false alarm"](EVERYTHING) == 0.25
    # lung expected of the first is questioned; of the second it would be believed
    assert found["mismatch recall"](EVERYTHING) == 0.25


def test_recall_stops_where_the_budget_is_spent():
    sure, off = np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, True, False, True])
    spurned = np.array([1.0, 0.0, 1.0, 0.5])
    assert recall_at(sure, off, spurned, 0.0) == 0.25
    assert recall_at(sure, off, spurned, 0.25) == 0.5
    assert recall_at(sure, off, spurned, 0.5) == 0.625


def test_calibration_compares_within_bins():
    right = np.array([True, True, False, False])
    assert calibration_error(np.array([0.95, 0.95, 0.05, 0.05]), right) == pytest.approx(0.05)
    assert calibration_error(np.array([0.05, 0.05, 0.95, 0.95]), right) == pytest.approx(0.95)
