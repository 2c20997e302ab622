"""To and from the log format of Inspect AI, so that other people's viewers open our runs.

One sample is one case: the thread as messages, the plan as the assistant's tool calls, the verdict
as a score. Written and read as JSON (`version` 2); an `.eval` file becomes JSON by Inspect's own
`inspect log convert --to json`. Inspect itself is not needed here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.cases import Call, Case, Prediction
from eval.matching import judge
from eval.toolcalls import Score, by_id, score
from eval.verdict import UNSCORED
from tools.errors import BadInput

SCORER = "histopilot/strict"


def _message(calls: Sequence[Any], first: int, text: str = "") -> dict[str, Any]:
    """The assistant's message of a turn whose first call has the number `first`."""
    return {
        "role": "assistant",
        "content": text,
        "tool_calls": [
            {
                "id": f"${first + position}",
                "function": str(call.get("tool")) if isinstance(call, dict) else "",
                "arguments": call["args"] if _readable(call) else {},
                "type": "function",
                **({} if _readable(call) else {"parse_error": json.dumps(call)}),
            }
            for position, call in enumerate(calls)
        ],
    }


def _readable(call: object) -> bool:
    return isinstance(call, dict) and isinstance(call.get("args"), dict)


def _thread(case: Case) -> Iterator[dict[str, Any]]:
    number = 1
    for turn in case.history:
        yield {"role": "user", "content": turn.instruction}
        yield _message([call.model_dump() for call in turn.calls], number, turn.result)
        number += len(turn.calls)
    yield {"role": "user", "content": case.instruction}


def _target(calls: Sequence[Call]) -> str:
    return json.dumps([call.model_dump() for call in calls], ensure_ascii=False)


def _sample(case: Case, prediction: Prediction | None, model: str) -> dict[str, Any]:
    verdict = judge(case, prediction)
    message = _message(prediction.calls if prediction else [], len(case.thread) + 1)
    thread = list(_thread(case))
    sample: dict[str, Any] = {
        "id": case.id,
        "epoch": 1,
        "input": thread,
        "target": [_target(plan.calls) for plan in case.expect.plans],
        "messages": [*thread, message],
        "output": {
            "model": model,
            "choices": [{"message": message, "stop_reason": "tool_calls"}],
            "error": prediction.error if prediction else None,
        },
        "metadata": {"tags": list(case.tags), "group": case.group},
    }
    if prediction and prediction.seconds is not None:
        sample["total_time"] = sample["working_time"] = prediction.seconds
    if verdict.code in UNSCORED:
        sample["error"] = {"message": verdict.detail, "traceback": "", "traceback_ansi": ""}
    else:
        sample["scores"] = {
            SCORER: {
                "value": "C" if verdict.passed else "I",
                "answer": json.dumps(prediction.calls if prediction else [], ensure_ascii=False),
                "explanation": verdict.detail,
                "metadata": {"code": verdict.code},
            }
        }
    return sample


def _results(result: Score) -> dict[str, Any]:
    unscored = sum(code in UNSCORED for code in result.failures.values())
    scored = result.n - unscored
    accuracy = len(result.passed) / scored if scored else 0.0
    metrics = {"accuracy": {"name": "accuracy", "value": accuracy}}
    return {
        "total_samples": result.n,
        "completed_samples": scored,
        "scores": [
            {
                "name": SCORER,
                "scorer": SCORER,
                "scored_samples": scored,
                "unscored_samples": unscored,
                "metrics": metrics,
            }
        ],
    }


def to_inspect(
    cases: Sequence[Case], predictions: Sequence[Prediction], model: str, dataset: str
) -> dict[str, Any]:
    """The log of a planner's predictions.

    Cases without a plan to score have no score in it, and do not count in its accuracy.

    Args:
        cases: what was planned.
        predictions: the plans.
        model: what to call the planner.
        dataset: what to call the cases.

    Raises:
        BadInput: as `eval.toolcalls.score`.
    """
    given = by_id(cases, predictions)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "created": now,
            "task": "histopilot-toolcalls",
            "model": model,
            "dataset": {
                "name": dataset,
                "samples": len(cases),
                "sample_ids": [case.id for case in cases],
            },
            "config": {"epochs": 1},
        },
        "results": _results(score(cases, predictions)),
        "stats": {"started_at": now, "completed_at": now},
        "samples": [_sample(case, given.get(case.id), model) for case in cases],
    }


def _prediction(sample: dict[str, Any]) -> Prediction:
    output = sample.get("output") or {}
    choices = output.get("choices") or [{"message": {}}]
    calls = choices[0]["message"].get("tool_calls") or []
    broken = [str(call["parse_error"]) for call in calls if call.get("parse_error")]
    failed = (sample.get("error") or {}).get("message")
    error = failed or output.get("error") or (broken[0] if broken else None)
    return Prediction(
        id=str(sample["id"]),
        calls=[{"tool": call["function"], "args": call["arguments"]} for call in calls],
        seconds=sample.get("working_time"),
        error=error,
        unavailable=failed is not None,
    )


def from_inspect(path: Path, epoch: int = 1) -> list[Prediction]:
    """The predictions in an Inspect log: the tool calls of each sample's output.

    A sample that failed to run (its `error`) is unavailable, not wrong.

    Args:
        path: the log, as JSON.
        epoch: which of the repetitions.

    Raises:
        BadInput: it can't be read, or has no samples of that epoch.
    """
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))["samples"]
        found = [_prediction(sample) for sample in samples if sample["epoch"] == epoch]
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}).") from error
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        why = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise BadInput(
            f"{path}: not an Inspect log as JSON (`inspect log convert --to json`): {why}"
        ) from error
    twice = [name for name, n in Counter(p.id for p in found).items() if n > 1]
    if twice:
        raise BadInput(f"{path}: sample {twice[0]!r} occurs twice in epoch {epoch}.")
    if not found:
        raise BadInput(f"{path}: there is no sample of epoch {epoch} in it.")
    return found
