"""The guard: doubts about the image that are asked about before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.plan import Plan

CHECK = "check"
"""The reference of the graph's own H&E check among the results."""


def checked(state: Mapping[str, Any]) -> bool:
    """Whether the H&E check has an output: one that failed inside is run again, not trusted."""
    check = state.get("results", {}).get(CHECK)
    return bool(check and check["output"])


def open_doubt(state: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first doubt that the user has not waved through: its key and the question."""
    results = state.get("results", {})
    confirmed = state.get("confirmed", [])
    if checked(state) and not results[CHECK]["output"]["is_he"] and CHECK not in confirmed:
        why = "; ".join(results[CHECK]["output"]["reasons"])
        return CHECK, f"This does not look like an H&E image ({why}). Go on all the same?"
    for ref, call in Plan.model_validate(state["plan"]).numbered().items():
        output = (results.get(ref) or {}).get("output")
        if call.tool != "classify_tissue" or not output or output["agrees"] is not False:
            continue
        expected = call.args["expected"]
        key = f"organ:{expected}"
        if key not in confirmed:
            found = output["label"].replace("_", " ")
            return key, (
                f"This appears to be {found} tissue (probability {output['probability']:.2f}), "
                f"are you sure this is a {expected} image?"
            )
    return None
