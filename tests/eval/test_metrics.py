"""Metrics against values worked out by hand on tiny arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eval.metrics import (
    Detection,
    aggregated_jaccard,
    balanced_accuracy,
    bootstrap,
    dice,
    match_centres,
    panoptic_quality,
    r_squared,
    typed_detection,
)

TRUTH = np.array([[1, 1, 1, 0, 2, 2], [0, 0, 0, 0, 2, 2]], np.int32)
# 1: 2 of 3 px found (IoU 2/3); 2: half of it in one instance that also spills (IoU 2/5); one extra.
GUESS = np.array([[1, 1, 0, 0, 2, 0], [3, 0, 0, 2, 2, 0]], np.int32)
MAPS = arrays(np.int32, (5, 5), elements=st.integers(0, 3))


def contiguous(labels):
    return np.unique(np.append(labels, 0), return_inverse=True)[1][:-1].reshape(labels.shape)


def test_panoptic_quality_by_hand():
    result = panoptic_quality(TRUTH, GUESS)
    assert result.matched == Detection(tp=1, fp=2, fn=1)
    assert result.sq == pytest.approx(2 / 3)
    assert result.dq == pytest.approx(2 / 5)  # 2·1 / (2·1 + 2 + 1)
    assert result.pq == pytest.approx(4 / 15)


def test_aggregated_jaccard_by_hand():
    # intersections 2 + 2; unions 3 and 5; the unused guess adds its 1 px
    assert aggregated_jaccard(TRUTH, GUESS) == pytest.approx(4 / 9)


def test_aggregated_jaccard_counts_a_missed_nucleus_as_union():
    guess = np.where(GUESS == 1, 1, 0).astype(np.int32)
    assert aggregated_jaccard(TRUTH, guess) == pytest.approx(2 / 7)


def test_empty_maps_agree_and_an_empty_guess_scores_nothing():
    empty = np.zeros((2, 6), np.int32)
    assert panoptic_quality(empty, empty).pq == 1
    assert aggregated_jaccard(empty, empty) == 1
    assert dice(empty > 0, empty > 0) == 1
    assert panoptic_quality(TRUTH, empty).pq == 0
    assert aggregated_jaccard(TRUTH, empty) == 0
    assert aggregated_jaccard(empty, TRUTH) == 0


def test_dice_by_hand():
    assert dice(TRUTH > 0, GUESS > 0) == pytest.approx(2 * 4 / (7 + 6))


def test_maps_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        panoptic_quality(TRUTH, GUESS[:, :3])


@given(MAPS, MAPS)
def test_identity_is_one_and_everything_lies_between_zero_and_one(a, b):
    a, b = contiguous(a), contiguous(b)
    assert panoptic_quality(a, a).pq == pytest.approx(1)
    assert aggregated_jaccard(a, a) == pytest.approx(1)
    for value in (panoptic_quality(a, b).pq, aggregated_jaccard(a, b), dice(a > 0, b > 0)):
        assert 0 <= value <= 1


@given(MAPS, MAPS)
def test_panoptic_quality_does_not_depend_on_the_order(a, b):
    a, b = contiguous(a), contiguous(b)
    assert panoptic_quality(a, b).pq == pytest.approx(panoptic_quality(b, a).pq)


def test_centres_are_paired_one_to_one_and_within_the_radius():
    truth = np.array([[0.0, 0.0], [0.0, 3.0]])
    guess = np.array([[0.0, 2.0], [0.0, 5.5], [9.0, 9.0]])
    # the nearest guess of both true points is the first; two pairs are only possible this way
    assert match_centres(truth, guess, 3.0) == [(0, 0), (1, 1)]
    assert match_centres(truth, guess[2:], 3.0) == []
    assert match_centres(truth, guess[:0], 3.0) == []


def test_typed_detection_counts_wrong_types_on_both_sides():
    truth, guess = ["a", "a", "b"], ["a", "b", "b", "a"]
    pairs = [(0, 0), (1, 1), (2, 2)]
    assert typed_detection(truth, guess, pairs, "a") == Detection(tp=1, fp=1, fn=1)
    assert typed_detection(truth, guess, pairs, "b") == Detection(tp=1, fp=1, fn=0)


def test_detections_add_up():
    assert (Detection(1, 2, 3) + Detection(1, 0, 1)).f1 == pytest.approx(4 / (4 + 2 + 4))
    assert Detection(0, 0, 0).f1 == 1


def test_r_squared_is_of_the_guesses_themselves():
    assert r_squared([1, 2, 3], [1, 2, 3]) == 1
    assert r_squared([1, 2, 3], [2, 2, 2]) == 0
    assert r_squared([1, 2, 3], [2, 4, 6]) == pytest.approx(1 - 14 / 2)
    with pytest.raises(ValueError, match="different"):
        r_squared([2, 2], [1, 3])


def test_balanced_accuracy_weighs_classes_and_counts_abstention_as_not_right():
    truth = ["a", "a", "a", "a", "b"]
    assert balanced_accuracy(truth, ["a", "a", "b", None, "b"]) == pytest.approx((0.5 + 1) / 2)
    with pytest.raises(ValueError, match="no cases"):
        balanced_accuracy([], [])


def test_bootstrap_draws_whole_groups():
    values = np.array([0.0, 0.0, 1.0, 1.0])

    def mean(indices):
        return float(values[indices].mean())

    assert bootstrap(["x", "x", "y", "y"], mean, rounds=200) == (0.0, 1.0)
    low, high = bootstrap(["p", "q", "r", "s"], mean, rounds=200)
    assert 0 <= low < 0.5 < high <= 1
    assert bootstrap(["g"] * 4, mean, rounds=10) == (0.5, 0.5)
