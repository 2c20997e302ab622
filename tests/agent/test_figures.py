"""The figure checker: rounding and units are fine, inventions are not."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.figures import unsupported

FACTS = {"count": 1412, "density_per_mm2": 3518.27, "present": 0.9731, "area_um2": 401300.5}


@pytest.mark.parametrize(
    "text",
    [
        "1,412 nuclei, 3,518 per mm²",
        "1412 nuclei (97.3%, about 97 %)",
        "an area of 0.401 mm² (401,300.5 µm²)",
        "CD8 and H&E at 40x are names, not figures",
        "one for each",
    ],
)
def test_what_was_measured_may_be_said(text: str) -> None:
    assert unsupported(text, [FACTS, {"note": "scanned at 40x"}]) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("1,413 nuclei", ["1,413"]),
        ("141 nuclei", ["141"]),
        ("97.4%", ["97.4"]),
        ("twelve mitoses", ["twelve"]),
        ("0.401 µm²", ["0.401"]),
        ("a density of 3518.9", ["3518.9"]),
        ("3 dozens and 1e6", ["3", "1e6", "dozens"]),
        ("a fraction of .87", [".87"]),
        ("1e400 cells, ½ of them, half", ["1e400", "½", "half"]),
        ("97.31 percent of ten", ["ten"]),
    ],
)
def test_what_was_not_measured_may_not(text: str, wrong: list[str]) -> None:
    assert unsupported(text, FACTS) == wrong


@given(value=st.integers(0, 10**7), other=st.integers(0, 10**7))
def test_a_count_supports_itself_only(value: int, other: int) -> None:
    assert unsupported(f"{value:,} cells", {"count": value}) == []
    assert bool(unsupported(f"{other:,} cells", {"count": value})) == (other != value)


@given(text=st.text())
def test_no_text_crashes_it(text: str) -> None:
    unsupported(text, FACTS)


COUNTS = st.integers(0, 10**6)


@given(one=COUNTS, other=COUNTS, said=COUNTS)
def test_a_sum_or_difference_of_two_counts_may_be_said(one: int, other: int, said: int) -> None:
    operands = [{"count": one}, {"count": other}]
    for right in (one + other, abs(one - other)) if one != other else ():
        assert unsupported(f"that makes {right:,}", {}, operands) == []
    derived = set() if one == other else {one + other, abs(one - other)}
    assert bool(unsupported(f"that makes {said:,}", {}, operands)) == (said not in derived)


@given(part=st.integers(1, 10**6), whole=st.integers(1, 10**6), tenths=st.integers(0, 2000))
def test_a_share_of_two_counts_may_be_said(part: int, whole: int, tenths: int) -> None:
    assume(part != whole)
    operands = [{"count": part}, {"count": whole}]
    assert unsupported(f"{100 * part / whole:.1f}% of them", {}, operands) == []
    assert unsupported(f"a ratio of {part / whole:.2f}", {}, operands) == []
    known = [100 * part / whole, 100 * whole / part, 100 * (part + whole), 100 * abs(part - whole)]
    near = min(abs(tenths / 10 - share) for share in known)
    if near > 0.051:
        assert unsupported(f"{tenths / 10:.1f}% of them", {}, operands) == [f"{tenths / 10:.1f}"]


AREAS = [{"area_um2": 1_234_567.0, "density_per_mm2": 3518.27}, {"area_um2": 401_300.5}]


@pytest.mark.parametrize(
    "text",
    [
        "together 1.636 mm²",
        "0.83 mm² more",
        "the first is 3.08 times the second",
        "a 3.1-fold difference",
        "the ratio of the areas is 3.08",
        "32.5% of it",
        "0.401 of 1.23 mm² is 32.6%",  # reckoned from the words of the tools
    ],
)
def test_arithmetic_on_measures(text: str) -> None:
    assert unsupported(text, [AREAS, "0.401 mm²", "1.23 mm²"], AREAS) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("3.08 glands", ["3.08"]),  # a ratio, and not said to be one
        ("1,238,085 in all", ["1,238,085"]),  # an area and a density
        ("33.5% of it", ["33.5"]),
        ("1.636 µm²", ["1.636"]),
    ],
)
def test_what_is_no_plain_arithmetic(text: str, wrong: list[str]) -> None:
    assert unsupported(text, AREAS, AREAS) == wrong


def test_nothing_is_derived_where_nothing_may_be() -> None:
    assert unsupported("1.636 mm² together", AREAS) == ["1.636"]
