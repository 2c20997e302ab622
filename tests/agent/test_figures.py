"""The figure checker: rounding and units are fine, inventions are not."""

import pytest
from hypothesis import given
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
