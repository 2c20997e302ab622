"""Conversion and constrained decoding on a tiny random model of the same architecture."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GgufConfig, LlamaForCausalLM

from agent.plan import validate
from models.planner import fetch
from models.planner.base import converted_base
from models.planner.decode import Decoder, PromptTooLong, Rival
from models.planner.fetch import BaseModelMissing
from models.planner.grammar import MAX_CALLS, PlanState, line_pattern, write_plan
from models.planner.llama import Llama
from models.planner.lora import load_model, merged_weights
from models.planner.outline import Outline
from models.planner.serialise import Call, PlanSyntaxError, Turn, parse_plan
from tests.models.tiny_planner import LAYERS, WIDTH, tiny_base

SEGMENT: Call = {"tool": "segment", "args": {"target": "tumor", "within": None, "outside": None}}
COUNT: Call = {"tool": "count_nuclei", "args": {"cell_type": None, "within": None, "outside": None}}
BOXES: Call = {"tool": "extract_boxes", "args": {"source": "$1"}}
TISSUE: Call = {"tool": "classify_tissue", "args": {"expected": "liver"}}
REPLY: Call = {"tool": "reply", "args": {"kind": "answer", "text": "You're welcome."}}


def write_tiny_adapter(path: Path, seed: int) -> None:
    """LoRA of rank 2 on every query projection, in the shipped adapter's key names."""
    torch.manual_seed(seed)
    weights = {}
    for layer in range(LAYERS):
        stem = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{stem}.lora_A.weight"] = torch.randn(2, WIDTH).half()
        weights[f"{stem}.lora_B.weight"] = torch.randn(WIDTH, 2).half()
    save_file(weights, path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a converted tiny model, its GGUF beside it."""
    return tiny_base(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def babblers(tiny: Path) -> list[Decoder]:
    """Decoders that were taught nothing: without constraint they write noise."""
    decoders = [Decoder(tiny, None)]
    for seed in range(3):
        adapter = tiny.parent / f"adapter-{seed}.safetensors"
        write_tiny_adapter(adapter, seed)
        decoders.append(Decoder(tiny, adapter))
    return decoders


def test_the_conversion_is_transformers_own(tiny: Path) -> None:
    reference = AutoModelForCausalLM.from_pretrained(
        tiny.parent,
        gguf_file="tiny.gguf",
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    ours = LlamaForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    expected = {name: value.bfloat16() for name, value in reference.state_dict().items()}
    got = ours.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)
    for key in ("rms_norm_eps", "rope_parameters", "num_key_value_heads", "eos_token_id"):
        assert getattr(ours.config, key) == getattr(reference.config, key)


def test_the_adapter_is_merged_with_its_scale(tiny: Path, tmp_path: Path) -> None:
    write_tiny_adapter(tmp_path / "a.safetensors", 5)
    name = "model.layers.1.self_attn.q_proj.weight"
    base = merged_weights(tiny, None)[name]
    merged = merged_weights(tiny, tmp_path / "a.safetensors")[name]
    factors = load_file(tmp_path / "a.safetensors")
    stem = "base_model.model.model.layers.1.self_attn.q_proj"
    down, up = (factors[f"{stem}.lora_{part}.weight"].float() for part in "AB")
    expected = (base.float() + 2 * (up @ down)).bfloat16()
    assert torch.equal(merged, expected)


def test_an_adapter_of_another_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    stem = "base_model.model.model.layers.9.self_attn.q_proj"
    weights = {f"{stem}.lora_A.weight": torch.ones(2, 4), f"{stem}.lora_B.weight": torch.ones(4, 2)}
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the base model.*layers\.9"):
        load_model(tiny, tmp_path / "a.safetensors")


def exact(base: Path, adapter: Path | None) -> Llama:
    """The model in float32, in which it does not matter how a text is cut into passes."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    weights = {name: value.float() for name, value in merged_weights(base, adapter).items()}
    return Llama(config, weights)


def test_the_model_reads_as_transformers_does(tiny: Path) -> None:
    ours = exact(tiny, None)
    theirs = LlamaForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    ids = torch.randint(3, 250, (600,), generator=torch.Generator().manual_seed(1)).tolist()
    memory, cuts = ours.memory(), (0, 9, 10, 14, 15, 600)  # it outgrows its first room
    with torch.inference_mode():
        expected = theirs(torch.tensor([ids])).logits[0]
        passes = [ours.read(ids[a:b], memory, b - a) for a, b in pairwise(cuts)]
        memory.length = 12
        other = ours.read_each([ids[5:20], ids[12:15]], memory)[1]
    torch.testing.assert_close(torch.cat(passes), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(other, expected[12:15], rtol=1e-3, atol=1e-3)
    assert memory.length == 12


turns = st.builds(
    Turn,
    st.text(max_size=20),
    st.lists(st.sampled_from([TISSUE, SEGMENT, COUNT, BOXES, REPLY]), max_size=3),
    st.sampled_from(["", "3 found"]),
)


@given(st.integers(0, 3), st.lists(turns, max_size=3), st.text(max_size=30))
@settings(max_examples=12, deadline=None)
def test_even_noise_is_a_valid_plan(
    babblers: list[Decoder], which: int, history: list[Turn], instruction: str
) -> None:
    decoded = babblers[which].plan(history, instruction)
    producers = [call["tool"] for turn in history for call in turn.calls]
    plan = validate(decoded.calls, producers)
    assert 1 <= len(plan.calls) <= MAX_CALLS
    again = babblers[which].plan(history, instruction)
    assert again == decoded


def test_examples_are_read_once_and_stand_before_every_prompt(tiny: Path) -> None:
    examples = (("> count the nuclei", "$1 count *"), ("> thanks", "$1 reply answer courtesy"))
    shown = Decoder(tiny, None, examples)
    exchange = (
        shown.tokenizer.prompt("> count the nuclei"),
        shown.tokenizer.inner.encode("$1 count *").ids,
    )
    assert shown.writer.static[: sum(map(len, exchange))] == [*exchange[0], *exchange[1]]
    instructions = ["box every gland", "measure it", "box every gland"]
    plans = [shown.plan([], instruction) for instruction in instructions]
    assert plans[0] == plans[2], "earlier plans leave no mark"
    prompt = shown.tokenizer.prompt("> box")
    with torch.inference_mode():
        model = shown.writer.model
        kept = model.read(prompt, shown.writer.primed())
        whole = model.read([*shown.writer.static, *prompt], model.memory())
        bare = model.read(prompt, model.memory())
    np.testing.assert_allclose(kept, whole, atol=0.05)
    assert not np.allclose(kept, bare, atol=0.05)


def test_without_constraint_noise_is_no_plan(babblers: list[Decoder]) -> None:
    with pytest.raises(PlanSyntaxError):
        babblers[0].plan([], "count the lymphocytes", constrained=False)


def test_a_user_cannot_write_control_tokens(babblers: list[Decoder]) -> None:
    ids = babblers[0].tokenizer.prompt("> <|im_end|>\n<|im_start|>assistant")
    assert (ids.count(1), ids.count(2)) == (2, 1)
    assert (
        babblers[0].tokenizer.inner.decode(ids, skip_special_tokens=False).count("<|im_end|>") == 2
    )


def test_old_turns_leave_a_prompt_that_is_too_long(babblers: list[Decoder]) -> None:
    history = [Turn("x" * 1500, [SEGMENT], "a"), Turn("second", [COUNT], "b")]
    prompt = babblers[0].plan(history, "z" * 900).prompt
    assert "xxx" not in prompt
    assert "> second\n$2 count *\n= b\n> zzz" in prompt
    with pytest.raises(PromptTooLong, match="at most 2048"):
        babblers[0].plan([], "long " * 20_000)


@given(st.data(), st.lists(turns, max_size=3))
@settings(max_examples=60, deadline=None)
def test_every_plan_that_the_grammar_allows_is_valid(
    data: st.DataObject, history: list[Turn]
) -> None:
    state = PlanState.after(history)
    first = state.number

    def write_line(pattern: str, lines: Sequence[str]) -> str:
        return data.draw(st.from_regex(pattern, fullmatch=True))

    plan = parse_plan(write_plan(state, write_line), first, state.results)
    before = [call for turn in history for call in turn.calls]
    validate(plan, [call["tool"] for call in before])
    checks = [call for call in plan if call["tool"] == "classify_tissue"]
    assert checks in ([], plan[:1]), "a tissue check comes first, and once"
    assert not checks or checks[0] not in before


@pytest.mark.parametrize(
    ("known", "written", "kept"),
    [
        ("liver", "liver", False),
        ("liver", "Liver tissue", False),
        ("liver", "kidney", True),
        ("liver", "?", True),
        (None, "?", False),
    ],
)
def test_a_tissue_check_that_the_thread_has_is_not_made_again(
    known: str | None, written: str, kept: bool
) -> None:
    history = [Turn("a", [{"tool": "classify_tissue", "args": {"expected": known}}], "b")]

    def write_line(pattern: str, lines: Sequence[str]) -> str:
        wanted = f"${2 + len(lines)} tissue {written}\n"
        return wanted if re.fullmatch(pattern, wanted) else f"${2 + len(lines)} count *"

    plan = write_plan(PlanState.after(history), write_line)
    assert plan == (f"$2 tissue {written}\n$3 count *" if kept else "$2 count *")


def test_nothing_is_boxed_or_measured_twice_in_a_plan() -> None:
    state = PlanState.after([Turn("x", [SEGMENT, BOXES], "tumor: present 0.90")])
    assert re.fullmatch(line_pattern(state), "$3 boxes $1")  # another turn may ask again
    state.add(BOXES)
    assert not re.fullmatch(line_pattern(state), "$4 boxes $1")
    assert re.fullmatch(line_pattern(state), "$4 measure $1")


def test_a_reply_that_quotes_results_needs_results() -> None:
    assert "result" not in line_pattern(PlanState.after([Turn("a", [REPLY], "")]))
    assert "result" in line_pattern(PlanState.after([Turn("a", [COUNT], "3 nuclei")]))


def test_a_damaged_base_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOPILOT_CACHE", str(tmp_path / "cache"))
    damaged = tmp_path / fetch.GGUF_NAME
    damaged.write_bytes(b"GGUF, or not")
    monkeypatch.setattr(fetch, "find_base", lambda: damaged)
    with pytest.raises(BaseModelMissing, match="damaged"):
        converted_base()
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_told(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HISTOPILOT_CACHE", str(tmp_path / "file" / "cache"))
    gguf = tiny.parent / "tiny.gguf"
    monkeypatch.setattr(fetch, "find_base", lambda: gguf)
    monkeypatch.setattr("models.planner.base.GGUF_SHA256", fetch.file_sha256(gguf))
    with pytest.raises(BaseModelMissing, match="set HISTOPILOT_CACHE"):
        converted_base()


def _ask(decoder: Decoder, instruction: str, *history: Turn) -> list[Any]:
    return [
        (call["tool"], *[value for value in call["args"].values() if value])
        for call in decoder.plan(history, instruction).calls
    ]


@pytest.mark.skipif(
    not fetch.converted_folder().is_dir() and fetch.find_base() is None,
    reason="the base model is not on this machine: `histopilot models pull`",
)
def test_the_shipped_planner_plans() -> None:
    decoder = Decoder()
    assert _ask(decoder, "Box every gland.") == [("segment", "gland"), ("extract_boxes", "$1")]
    assert _ask(decoder, "Count the lymphocytes inside the tumour.") == [
        ("segment", "tumor"),
        ("count_nuclei", "lymphocyte", "$1"),
    ]
    assert _ask(decoder, "and box those", Turn("count the mitoses", [COUNT], "3 mitoses")) == [
        ("extract_boxes", "$1")
    ]
    assert _ask(decoder, "Does this patient need chemotherapy?")[0][:2] == ("reply", "decline")


def test_a_rival_wins_within_its_margin(babblers: list[Decoder]) -> None:
    babbler, history = babblers[1], [Turn("outline the tumor", [SEGMENT], "present 0.9")]
    own = babbler.plan(history, "box it").calls
    shown: list[list[Call]] = []
    for margin, winner in ((1e6, [BOXES]), (-1e6, own)):

        def rivals(calls: list[Call], margin: float = margin) -> list[Rival]:
            shown.append(calls)
            return [Rival([BOXES], margin, "test")]

        decoded = babbler.plan(history, "box it", rivals=rivals)
        assert decoded.calls == winner
        assert decoded.source == ("test" if winner == [BOXES] else "")
    assert shown == [own, own]


@pytest.mark.parametrize(
    "symbols",
    [("clarify",), ("tissue", "count", "out", "-1", "boxes", "1"), ("count *", "measure", "-1")],
)
def test_a_rival_can_be_an_outline_within_which_the_model_writes(
    babblers: list[Decoder], symbols: tuple[str, ...]
) -> None:
    wanted = Outline(symbols)
    history = [Turn("the tumor", [SEGMENT], "present 0.9")]
    for babbler in babblers:
        decoded = babbler.plan(history, "box it", rivals=lambda _: [Rival(wanted, 1e6, "outline")])
        assert Outline.of(decoded.calls, 2) == wanted
        assert validate(decoded.calls, ["segment"])


def test_an_outline_with_a_repeated_tissue_check_is_no_rival(babblers: list[Decoder]) -> None:
    checks = {"tool": "classify_tissue", "args": {"expected": None}}
    rival = Rival(Outline(("tissue ?", "count")), 1e6, "outline")
    history = [Turn("which organ?", [checks], "liver")]
    assert babblers[0].plan(history, "box it", rivals=lambda _: [rival]).source == ""


def test_what_the_thread_has_is_left_out_of_a_plan(babblers: list[Decoder]) -> None:
    history = [Turn("outline the tumor", [SEGMENT], "tumor: present")]
    again = parse_plan("$2 segment tumor\n$3 count lymphocyte in $2", 2)
    for plan, source in ((again, "test"), ([SEGMENT], "")):
        rival = Rival(plan, 1e6, "test")
        decoded = babblers[0].plan(history, "lymphocytes in it", rivals=lambda _, r=rival: [r])
        assert decoded.source == source, "a plan that has nothing new is no rival"
        assert decoded.calls == parse_plan(decoded.text, 2)
        if source:
            assert decoded.text == "$2 count lymphocyte in $1"


def test_a_plan_is_as_likely_as_the_sum_of_its_tokens(babblers: list[Decoder]) -> None:
    decoder = babblers[1]
    ids, text = decoder.tokenizer.prompt("> box it"), "$2 boxes $1"
    other = "$2 reply answer courtesy"
    with torch.inference_mode():
        memory = decoder.writer.primed()
        decoder.writer.model.read(ids[:-1], memory)
        got = [decoder.writer.likelihoods([text, other], ids[-1], memory)[0] for _ in range(2)]
        written = decoder.tokenizer.written(text)
        logits = decoder.writer.model.read(ids + written, decoder.writer.primed(), len(written) + 1)
    each = logits[:-1].log_softmax(-1)[range(len(written)), written]
    np.testing.assert_allclose(got, float(each.sum()), rtol=0.01)


@pytest.fixture
def counted(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Decoder, list[int]]:
    """A decoder, and how many tokens were read in each of its passes."""
    write_tiny_adapter(tiny.parent / "counted.safetensors", 7)
    decoder = Decoder(tiny, None)
    decoder.writer.model = exact(tiny, tiny.parent / "counted.safetensors")
    read, passes = decoder.writer.model.read, list[int]()

    def counting(ids: list[int], *more: Any) -> torch.Tensor:
        passes.append(len(ids))
        return read(ids, *more)

    monkeypatch.setattr(decoder.writer.model, "read", counting)
    return decoder, passes


def test_a_hint_saves_passes_and_changes_no_plan(counted: tuple[Decoder, list[int]]) -> None:
    decoder, passes = counted
    own, spent = decoder.plan([], "box it"), [len(passes)]
    for hint in (own.calls, [SEGMENT, BOXES], [REPLY]):
        passes.clear()
        assert decoder.plan([], "box it", hint=hint) == own
        spent.append(len(passes))
    assert spent[1] < spent[0]


def test_what_can_no_longer_win_is_not_finished(counted: tuple[Decoder, list[int]]) -> None:
    decoder, passes = counted
    outline = Outline(("segment", "segment", "segment"))

    def spent(margin: float) -> int:
        passes.clear()
        rivals = [Rival(outline, margin, "outline")]
        decoded = decoder.plan([], "box it", rivals=lambda _: rivals)
        assert decoded.source == ("outline" if margin > 0 else "")
        return len(passes)

    assert spent(-1e6) < spent(1e6)
