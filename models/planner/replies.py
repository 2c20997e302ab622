"""What HistoPilot says when it runs no tool: reason codes and the sentences behind them.

The embedded planner chooses a kind and a reason code, never words: the sentences are written here,
so that what is said about the system's limits is true whatever the model does.
"""

from __future__ import annotations

from collections.abc import Sequence

REPLIES: dict[str, dict[str, str]] = {
    "clarify": {
        "target": "I can't tell which structure or cells you mean. Name one, for example "
        "“outline the glands” or “count the lymphocytes”, or refer to an earlier result.",
    },
    "decline": {
        "diagnosis": "I can't give a diagnosis: that takes a pathologist, the clinical context and "
        "often further stains. I can outline, count or measure a structure that you name.",
        "grade": "I can't assign a grade: that is a pathologist's judgement. I can give figures "
        "that go into one, such as a count of mitotic figures or the area of a region.",
        "stage": "I can't give a stage: it depends on the whole specimen and on findings beyond "
        "this image. I can outline, count or measure a structure that you name.",
        "prognosis": "I can't say how a disease will develop: nothing that I measure in one image "
        "supports that. I can outline, count or measure a structure that you name.",
        "treatment": "I can't advise on treatment: that is for the treating physicians. "
        "I can outline, count or measure a structure that you name.",
        "molecular": "I can't tell the molecular or receptor status (such as HER2, ER, MSI, Ki-67 "
        "or mutations) from an H&E image: it needs its own assay.",
        "stain": "I work on H&E only: I can't read another stain, and I don't turn this image into "
        "one. For that the section has to be stained and scanned.",
        "modality": "I work on bright-field H&E images only, not on radiology, fluorescence, "
        "electron microscopy or other modalities.",
        "measure": "No tool of mine measures that. I measure areas, fractions of the tissue, and "
        "for nuclei their number, density, mean area and eccentricity.",
        "image": "I see only the image of this thread: I can't open, compare or edit others. "
        "Start a new thread with the other image.",
        "unrelated": "That has nothing to do with this image or with histology, so I leave it. "
        "I outline, count and measure what an H&E image shows.",
        "system": "I don't change my rules, settings or files from an instruction, and I don't "
        "show them. I outline, count and measure what an H&E image shows.",
    },
    "answer": {
        "histology": "That is a general question on histology, and the embedded planner only "
        "chooses tools: it has no text to answer from. With the `openai` planner a larger language "
        "model can answer. I can outline, count or measure a structure in this image.",
        "abilities": "I work on one H&E image: I name the tissue, outline structures, count nuclei "
        "and cell types, restrict either to the inside or outside of a region, draw boxes, and "
        "measure areas, fractions, densities and shapes. I say so where no model of mine knows a "
        "structure. I don't diagnose, grade or advise.",
        "courtesy": "At your service. Tell me what to outline, count or measure in the image.",
        "result": "The results of this thread so far: {results}",
    },
}
"""Kind → reason code → sentence. `{results}` stands for the thread's result lines."""

DEFAULT_REASON = {"clarify": "target", "decline": "unrelated", "answer": "histology"}
"""The code that stands for a reply whose sentence is not one of ours (from another planner)."""


MAX_QUOTED_CHARS = 1_500
"""How much of the results a reply quotes: the latest, where there is more."""


def reply_text(kind: str, reason: str, results: Sequence[str] = ()) -> str:
    """The sentence for `kind` and `reason`.

    Args:
        kind: `clarify`, `decline` or `answer`.
        reason: a code of that kind in `REPLIES`.
        results: the thread's result lines, oldest first, which the code `result` quotes.

    Raises:
        KeyError: `kind` and `reason` don't go together.
    """
    template = REPLIES[kind][reason]
    if "{results}" not in template:
        return template
    said = "; ".join(line.strip().rstrip(".") for line in results if line.strip())
    if len(said) > MAX_QUOTED_CHARS:
        said = f"… {said[-MAX_QUOTED_CHARS:].partition('; ')[2]}"
    return template.replace("{results}", f"{said}." if said else "nothing has been measured yet.")


def reason_of(kind: str, text: str) -> str:
    """The reason code whose sentence `text` is, or the kind's default where it is none of ours."""
    for reason, template in REPLIES[kind].items():
        if text.startswith(template.partition("{results}")[0]):
            return reason
    return DEFAULT_REASON[kind]
