"""From the calls' results to the answer: masks by reference, boxes, figures, and the text.

The answer is plain data made from the state alone, so it can be rebuilt from a trace. The tools
have already applied `within` and `outside`; what is composed here refers to their masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.figures import unsupported
from agent.plan import Call, Plan, references
from models.backend import ALL_NUCLEI
from tools.errors import ToolError
from tools.registry import TOOLS
from tools.units import percent

WITHHELD = "(A sentence was withheld here: it held a figure that no tool measured.)"
Phrase = Callable[[Sequence[str], Any], str]
"""Words findings anew, given the facts that their figures come from."""
_FAULTS = frozenset({"internal", "timeout", "worker_lost", "bad_input"})


def compose(state: Mapping[str, Any], phrase: Phrase | None = None) -> dict[str, Any]:
    """The answer of a turn.

    Args:
        state: the graph's state (`agent.graph.State`), its calls finished or not to be run.
        phrase: words what was found anew; None leaves it as the tools say it.

    Returns:
        `status`, `text`, `tissue`, `masks`, `boxes`, `measurements` as the contract's
        `result.json`; each mask also has `array`, the handle of its label map.
    """
    if state["plan"] is None:
        return _answer("failed", _unplanned(state))
    plan = Plan.model_validate(state["plan"])
    reply = plan.reply()
    if reply is not None:
        kinds = {"clarify": "clarify", "decline": "declined", "answer": "answered"}
        text = reply.args["text"]
        return _answer(kinds[reply.args["kind"]], text if _may_be_said(text, state) else WITHHELD)
    if state.get("declined"):
        return _answer("declined", "Stopped, as you said no. Nothing was measured.")
    check = state["results"].get("check", {})
    if check.get("error"):
        why = check["error"]["message"]
        return _answer("failed", f"The image could not be checked, so nothing was measured: {why}")
    return _measured(plan, state["results"], phrase)


def needs_confirmation(question: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a turn that waits for the user's yes or no."""
    answer = _answer("needs_confirmation", question)
    plan = Plan.model_validate(state["plan"])
    answer["tissue"] = _tissue(plan.numbered(), state.get("results", {}))
    return noted(answer, state)


def noted(answer: dict[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """`answer`, which says so where another planner planned it than was asked."""
    instead = state.get("instead")
    if instead is None:
        return answer
    note = f"(Planned by {instead['name']} in its place – {instead['reason']}.)"
    return {**answer, "text": f"{answer['text']} {note}"}


def failure(fault: str) -> dict[str, Any]:
    """The answer of a turn that a fault of ours ended; `fault` is its type and message."""
    return _answer("failed", f"HistoPilot failed inside, so there is no answer ({fault}).")


def result_line(state: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """One line of what came out of a turn, for the planner's history."""
    plan = Plan.model_validate(state["plan"])
    if plan.reply() is not None:
        return str(answer["text"])
    lines = []
    for ref, call in plan.numbered().items():
        tool, result = TOOLS[call.tool], state["results"][ref]
        if result["output"] is None:
            lines.append(f"{call.tool}: {result['error']['code'].replace('_', ' ')}")
            continue
        args = tool.arguments.model_validate(call.args)
        lines.append(tool.line(args, tool.output.model_validate(result["output"])))
    return "; ".join(lines)


def names_of(calls: Mapping[str, Call], results: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """The words for each call that can be referred to: what it outlined or counted."""
    names = {ref: call.args for ref, call in calls.items()}
    names |= {ref: result["args"] for ref, result in results.items() if ref not in names}
    return {
        ref: str(args.get("target") or args.get("cell_type") or ALL_NUCLEI)
        for ref, args in names.items()
    }


def _may_be_said(text: str, state: Mapping[str, Any]) -> bool:
    """Whether a reply's figures are the thread's own, or plain arithmetic on two of them."""
    results = list(state.get("results", {}).values())
    said = [turn["result"] for turn in state.get("history", [])]
    operands: list[dict[str, float]] = []
    for result in results:
        figures = _figures(result["output"] or {})
        kinds = figures.pop("by_kind", {})
        operands += [figures, *({"count": count} for count in kinds.values())]
    return not unsupported(text, [[_facts(result) for result in results], said], operands)


def _answer(status: str, text: str) -> dict[str, Any]:
    return {
        "status": status,
        "text": text,
        "tissue": None,
        "masks": [],
        "boxes": [],
        "measurements": {},
    }


def _unplanned(state: Mapping[str, Any]) -> str:
    if state.get("planner_missing"):
        return f"Nothing was planned: {state['planning_error']}"
    return (
        f"I could not turn that into a plan ({state['planning_error']}). "
        "Say what to outline, count, box or measure."
    )


def _measured(
    plan: Plan, results: Mapping[str, dict[str, Any]], phrase: Phrase | None
) -> dict[str, Any]:
    calls = plan.numbered()
    used = {source for call in plan.calls for source in references(call).values()}
    rank = {ref: (call.tool == "classify_tissue", ref in used) for ref, call in calls.items()}
    order = sorted(calls, key=rank.__getitem__)  # what was asked for, what it needed, the organ
    names = names_of(calls, results)
    sentences = [_checked(TOOLS["check_image"], results.get("check"), names)]
    sentences += [_checked(TOOLS[calls[ref].tool], results[ref], names) for ref in order]
    share = _share(calls, results)
    if share is not None:
        sentences.insert(1, share.pop("text"))
    status, found = _status(calls, results), [text for text in sentences if text]
    if phrase and status == "completed":
        text = phrase(found, [[_facts(results[ref]) for ref in calls], share, names])
    else:
        text = " ".join(found)
    answer = _answer(status, f"{text} {_methods(calls, results, names)}".strip())
    answer["tissue"] = _tissue(calls, results)
    for ref, call in calls.items():
        output = results[ref]["output"]
        if output is None:
            continue
        if call.tool in ("segment", "count_nuclei"):
            answer["masks"].append(mask_of(ref, call, names[ref], output))
        if call.tool == "extract_boxes":
            source = call.args["source"]
            answer["boxes"] += [
                {"call": ref, "source": source, "xyxy": list(box)} for box in output["boxes"]
            ]
        figures = _figures(output)
        if figures:
            answer["measurements"][ref] = figures
    if share is not None:
        answer["measurements"]["share"] = share
    answer["masks"] += _earlier_masks(calls, results, names)
    return answer


def mask_of(ref: str, call: Call, name: str, output: dict[str, Any]) -> dict[str, Any]:
    """The answer's entry for what a call has outlined or counted: `name` in words."""
    mask = {
        "call": ref,
        "target": name,
        "kind": "instance" if call.tool == "count_nuclei" else "semantic",
        "file": f"mask-{ref[1:]}.png",
        "present": output["present"],
        "count": output.get("count", int(output.get("area_px", 0) > 0)),
        "array": output["mask"],
    }
    for key in ("kinds", "kind_of", "confidence"):
        if key in output:
            mask[key] = output[key]
    return mask


def _earlier_masks(
    calls: Mapping[str, Call], results: Mapping[str, dict[str, Any]], names: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Masks of earlier turns that this turn refers to: a follow-up shows what it is about."""
    masks = []
    sources = {source for call in calls.values() for source in references(call).values()}
    for ref in sorted(sources - set(calls), key=lambda ref: int(ref[1:])):
        result = results[ref]
        if result["output"] is not None:
            call = Call(tool=result["tool"], args=result["args"])
            masks.append(mask_of(ref, call, names[ref], result["output"]))
    return masks


def _status(calls: Mapping[str, Call], results: Mapping[str, dict[str, Any]]) -> str:
    errors = [results[ref]["error"] for ref in calls if results[ref]["error"]]
    if any(error["code"] in _FAULTS for error in errors):
        return "failed"
    looked = [ref for ref, call in calls.items() if call.tool != "classify_tissue"]
    if looked and all(results[ref]["error"] for ref in looked):
        return "declined"
    return "completed"


def _tissue(
    calls: Mapping[str, Call], results: Mapping[str, dict[str, Any]]
) -> dict[str, Any] | None:
    for ref, call in calls.items():
        output = (results.get(ref) or {}).get("output")
        if call.tool == "classify_tissue" and output:
            label = output["label"]
            return {"label": label or "undetermined", "probability": output["probability"]}
    return None


def _checked(tool: Any, result: dict[str, Any] | None, names: Mapping[str, str]) -> str:
    """A call's sentence, or its error, never with a figure that is not in its result."""
    if result is None:
        return ""
    if result["error"]:
        return ToolError.model_validate(result["error"]).message
    args = tool.arguments.model_validate(result["args"])
    output = tool.output.model_validate(result["output"])
    text: str = tool.sentence(args, output, names)
    return WITHHELD if unsupported(text, [_facts(result), names]) else text


def _methods(
    calls: Mapping[str, Call], results: Mapping[str, dict[str, Any]], names: Mapping[str, str]
) -> str:
    """How each thing was found, and how good that was where it was measured."""
    told: dict[str, None] = {}
    for ref in calls:
        output = results[ref]["output"]
        if not output or "method" not in output:
            continue
        text = f"{names[ref]} – {output['method']}"
        quality = output["quality"]
        if quality:
            text += f" ({quality['metric']} {quality['value']:.2f} on {quality['dataset']})"
        told[text] = None
    return f"Methods: {'; '.join(told)}." if told else ""


def _facts(result: Mapping[str, Any]) -> list[Any]:
    """What a sentence may take from a result: its figures and its words, no handle, no box."""
    output = result["output"] or {}
    words = {key: value for key, value in output.items() if isinstance(value, str)}
    more = [output.get(key) for key in ("runners_up", "reasons")]
    return [_figures(output), words, more, result["args"]]


def _figures(output: dict[str, Any]) -> dict[str, Any]:
    """An output's numbers by name: what `measurements` shows of it."""
    return {
        key: value
        for key, value in output.items()
        if (isinstance(value, (int, float)) and not isinstance(value, bool)) or key == "by_kind"
    }


def _share(
    calls: Mapping[str, Call], results: Mapping[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """The share of cells that two counts of one place ask for: a type, and every nucleus."""
    counts = [
        (ref, call)
        for ref, call in calls.items()
        if call.tool == "count_nuclei" and results[ref]["output"]
    ]
    if len(counts) != 2 or len(calls) != 2 + sum(
        call.tool in ("classify_tissue", "segment") for call in calls.values()
    ):
        return None
    (part, _), (whole, every) = sorted(counts, key=lambda item: item[1].args["cell_type"] is None)
    same = all(calls[part].args[k] == every.args[k] for k in ("within", "outside"))
    total = results[whole]["output"]["count"]
    types = (calls[part].args["cell_type"], every.args["cell_type"])
    if types[0] is None or types[1] is not None or not same or total == 0:
        return None
    value = round(results[part]["output"]["count"] / total, 4)
    return {
        "of": part,
        "in": whole,
        "fraction": value,
        "text": f"{types[0]}: {percent(value)} of all nuclei.",
    }
