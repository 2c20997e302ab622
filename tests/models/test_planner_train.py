"""Fine-tuning, on a tiny random model of the same architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.planner.fetch import file_sha256
from models.planner.lora import load_model
from models.planner.serialise import Turn, prompt_text, thread_text
from models.planner.tokens import PlanTokenizer
from models.planner.train import means, run
from models.planner.train.__main__ import main
from models.planner.train.config import PlannerConfig
from models.planner.train.packs import Packs, last_alone
from tests.models.tiny_planner import LAYERS, tiny_base

FOLDER = Path(run.__file__).parent
THREAD = thread_text(
    [
        Turn(
            "count the lymphocytés <|im_end|>",
            [
                {"tool": "segment", "args": {"target": "tumor"}},
                {"tool": "count_nuclei", "args": {"cell_type": "lymphocyte", "within": "$1"}},
            ],
            "41 lymphocytes for $5",
        )
    ],
    "box them",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("tiny"))


def quick(**changes: Any) -> PlannerConfig:
    small = {"steps": 4, "warmup": 1, "decay": 2, "packs": 2, "pack_tokens": 48}
    small |= {"start": None, "first_layer": 0, "checkpoint_every": 2, "rank": 2, "rate": 0.01}
    return PlannerConfig.read(FOLDER / "embedded.toml").model_copy(update=small | changes)


def test_what_is_learnt_is_every_plan_of_the_thread_and_nothing_else(tiny: Path) -> None:
    tokenizer = PlanTokenizer(tiny / "tokenizer.json")
    ids, own = tokenizer.example(THREAD, "$3 boxes $2")
    assert ids[: len(tokenizer.prompt(THREAD))] == tokenizer.prompt(THREAD)
    learnt = tokenizer.inner.decode(
        [i for i, word in zip(ids, own, strict=True) if word], skip_special_tokens=False
    )
    assert learnt == "$1 segment tumor\n$2 count lymphocyte in $1\n$3 boxes $2<|im_end|>"
    assert tokenizer.inner.decode(ids, skip_special_tokens=False) == (
        prompt_text(THREAD) + "$3 boxes $2<|im_end|>"
    )
    assert ids.count(tokenizer.end) == 2  # the user's own is plain text


def test_of_a_written_thread_only_the_last_plan_is_learnt(tiny: Path) -> None:
    tokenizer = PlanTokenizer(tiny / "tokenizer.json")
    ids, own = tokenizer.example(THREAD, "$3 boxes $2")
    learnt = [i for i, word in zip(ids, last_alone(own), strict=True) if word]
    assert tokenizer.inner.decode(learnt, skip_special_tokens=False) == "$3 boxes $2<|im_end|>"
    pack = Packs(3, 10, 400, tokenizer.example, written=1.0)[0]
    starts = (pack["position_ids"][0] == 0).sum()
    runs = (pack["logits_to_keep"].diff() > 1).sum() + 1
    assert runs == starts, "one plan a thread"


def test_packs_are_a_function_of_seed_and_number(tiny: Path) -> None:
    encode = PlanTokenizer(tiny / "tokenizer.json").example
    pack, again = (Packs(3, 10, 400, encode)[7] for _ in range(2))
    assert all(torch.equal(pack[name], again[name]) for name in pack)
    assert not torch.equal(pack["input_ids"], Packs(4, 10, 400, encode)[7]["input_ids"])
    starts = (pack["position_ids"][0] == 0).nonzero().flatten()
    opens = pack["input_ids"][0, starts]
    assert len(starts) > 1
    assert set(opens.tolist()) == {PlanTokenizer(tiny / "tokenizer.json").open}
    assert torch.equal(pack["labels"], pack["input_ids"][:, pack["logits_to_keep"] + 1])
    assert pack["input_ids"].shape[1] >= 400


def test_an_example_in_a_pack_is_read_as_if_it_were_alone(tiny: Path) -> None:
    encode = PlanTokenizer(tiny / "tokenizer.json").example
    model = LlamaForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    pack = Packs(3, 10, 400, encode)[0]
    positions = pack["position_ids"]
    second = int((positions[0] == 0).nonzero()[1])
    with torch.inference_mode():
        packed = model(input_ids=pack["input_ids"], position_ids=positions).logits[0, :second]
        alone = model(input_ids=pack["input_ids"][:, :second]).logits[0]
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)


def test_a_run_that_was_stopped_ends_like_one_that_was_not(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "converted_base", lambda: tiny)
    whole = load_file(run.train(quick(), tmp_path / "whole"))
    run.train(quick(steps=2, decay=1), tmp_path / "part")  # before the decay of either
    resumed = load_file(run.train(quick(), tmp_path / "part"))
    assert len(whole) == LAYERS * len(run.LINEAR) * 2
    assert any(bool(value.any()) for name, value in whole.items() if "lora_B" in name)
    assert whole.keys() == resumed.keys()


def test_a_run_goes_on_from_an_adapter_and_leaves_the_lower_layers(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "converted_base", lambda: tiny)
    start = run.train(quick(seed=5), tmp_path / "first")
    monkeypatch.setattr(run, "_PLANNER", tmp_path / "first")
    ended = run.train(quick(start=start.name, first_layer=1), tmp_path / "second")
    before, after = load_file(start), load_file(ended)
    lower = [name for name in before if ".layers.0." in name]
    assert lower
    assert all(torch.equal(before[name], after[name]) for name in lower)
    assert not all(torch.equal(before[name], after[name]) for name in before)
    told = (tmp_path / "second" / "adapter.md").read_text(encoding="utf-8")
    assert file_sha256(start) in told
    assert file_sha256(ended) in told


def test_the_decoder_reads_what_the_trainer_wrote(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "converted_base", lambda: tiny)
    config = quick(rank=24, alpha=48)
    adapter = run.train(config, tmp_path)
    trained = run.adapted(tiny, config.model_copy(update={"start": str(adapter)}))
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        by_peft = trained(input_ids=ids).logits.float()
        model = load_model(tiny, adapter)
        merged = model.read(ids[0].tolist(), model.memory(), ids.shape[1])[None]
    torch.testing.assert_close(by_peft, merged, rtol=0.1, atol=0.1)


def test_the_70b_recipe_runs_on_a_tiny_model_of_its_architecture(
    tiny: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tiny / "tokenizer.json"), eos_token="<|im_end|>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}<|im_end|>"
    )
    base = tmp_path / "base"
    tokenizer.save_pretrained(base)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 1}  # 8 to 1, as the 70B
    LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), **shape, **heads, tie_word_embeddings=False)
    ).save_pretrained(base)
    recipe = PlannerConfig.read(FOLDER / "llama-70b.toml")
    # One process on a CPU has nothing to shard over.
    small = {"base": str(base), "sharded": False, "steps": 2, "pack_tokens": 32, "packs": 1}
    adapter = run.train(recipe.model_copy(update=small), tmp_path / "out")
    weights = load_file(adapter)
    assert weights["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"].shape == (24, 64)
    assert (tmp_path / "out" / "peft" / "adapter_config.json").is_file()


def test_a_sharded_run_without_torchrun_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(typer.BadParameter, match="torchrun"):
        main(tmp_path, FOLDER / "llama-70b.toml")


def test_the_mean_of_two_runs_tells_of_both(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "converted_base", lambda: tiny)
    folders = [tmp_path / "one", tmp_path / "other"]
    for seed, folder in enumerate(folders, 71):
        run.train(quick(seed=seed), folder)
    means.main(folders, tmp_path / "mean")
    own, other, both = (load_file(f / "adapter.safetensors") for f in [*folders, tmp_path / "mean"])
    for name, value in both.items():
        middle = (own[name].float() + other[name].float()) / 2
        torch.testing.assert_close(value.float(), middle, rtol=1e-3, atol=1e-6)
    card = (tmp_path / "mean" / "adapter.md").read_text()
    assert "seed 71" in card
    assert "seed 72" in card
    assert card.count("## Retrain") == 1
    assert file_sha256(tmp_path / "mean" / "adapter.safetensors") in card


def test_a_mean_of_nothing_over_a_run_or_of_unlike_runs_is_refused(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for rank, folder in enumerate(folders, 1):
        folder.mkdir()
        with pytest.raises(typer.BadParameter, match="each RUN holds"):
            means.main(folders, tmp_path / "out")
        save_file({"lora_A": torch.ones(rank, 4)}, folder / "adapter.safetensors")
    with pytest.raises(typer.BadParameter, match="--out is none of them"):
        means.main(folders, folders[0])
    with pytest.raises(typer.BadParameter, match="other matrices"):
        means.main(folders, tmp_path / "out")
