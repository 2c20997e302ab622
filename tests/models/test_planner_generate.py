"""The generator: plans right by the contract, grammatical phrases, files that fit together."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from importlib import resources
from random import Random

import pytest
from typer.testing import CliRunner

from agent.plan import validate
from eval.cases import Case
from models.ontology import normalise
from models.planner.generate import examples
from models.planner.generate.__main__ import app
from models.planner.generate.drafts import mix
from models.planner.generate.entities import Mention
from models.planner.generate.examples import digest, held_out
from models.planner.generate.grammar import LANGUAGES, Noun, Template, language, plural_of
from models.planner.generate.intents import Intent, Known, Reply, Scope, Want
from models.planner.generate.lexicons import lexicon
from models.planner.generate.noise import american_to_british
from models.planner.generate.plans import Ledger, plan
from models.planner.generate.report import diversity
from models.planner.grammar import PlanState, line_pattern
from models.planner.serialise import parse_plan, plan_lines
from tests.conftest import ROOT

DICE = Random(0)  # noqa: S311 - chance, no secret
MADE = list(examples(seed=1, n=2000))


def said(text: str, article: str = "the", *, plural: bool = True) -> Noun:
    return Noun(text, text, article, plural)


def region(target: str, organ: str | None = None) -> Mention:
    return Mention(target, "region", organ, said(target))


def cell(target: str | None, organ: str | None = None) -> Mention:
    return Mention(target, "cell", organ, said(target or "nuclei"))


def lines(intent: Intent, ledger: Ledger | None = None) -> list[str]:
    ledger = ledger or Ledger()
    return plan_lines(plan(intent, ledger).calls, len(ledger.calls) + 1)


TUMOR, GLAND, NECROSIS = region("tumor"), region("gland"), region("necrosis")
LYMPHOCYTE = cell("lymphocyte")


def test_examples_are_valid_plans_that_the_grammar_can_write_and_the_parser_reads() -> None:
    for example in MADE:
        earlier = [call["tool"] for turn in example.history for call in turn.calls]
        validate(example.plan, earlier)
        Case.model_validate(example.case())
        state, start = PlanState.after(example.history), len(earlier) + 1
        written = plan_lines(example.plan, start)
        for call, line in zip(example.plan, written, strict=True):
            assert re.fullmatch(line_pattern(state), line), line
            state.add(call)
        assert plan_lines(parse_plan("\n".join(written), start), start) == written


def test_one_seed_gives_the_same_examples_and_another_gives_others() -> None:
    assert [e.case() for e in examples(1, 50)] == [e.case() for e in MADE[:50]]
    assert [e.instruction for e in examples(2, 50)] != [e.instruction for e in MADE[:50]]


def test_paraphrases_share_thread_and_plan() -> None:
    made = list(examples(3, 30, paraphrases=3))
    for group in {example.group for example in made}:
        same = [example for example in made if example.group == group]
        assert len({json.dumps(e.case()["expect"]) for e in same}) == 1
        assert all(e.history == same[0].history for e in same)
    assert len({example.instruction for example in made}) > 20


def test_the_hand_written_test_sets_are_held_out() -> None:
    hand = [
        json.loads(line)["instruction"]
        for file in (ROOT / "eval" / "cases").glob("*.jsonl")
        for line in file.read_text("utf-8").splitlines()
    ]
    missing = sum(not held_out(text) for text in hand)
    assert missing == 0, f"{missing} instructions: write digest(...) of each to heldout.txt"
    known = {digest(text) for text in hand}
    assert not [example.id for example in MADE if digest(example.instruction) in known]


@pytest.mark.parametrize(
    ("intent", "expected"),
    [
        (
            Intent("", (Want((LYMPHOCYTE,), (Scope(within=TUMOR),)),)),
            ["$1 segment tumor", "$2 count lymphocyte in $1"],
        ),
        (
            Intent("", (Want((LYMPHOCYTE,), (Scope(TUMOR, GLAND),), boxes=True),)),
            [
                "$1 segment tumor",
                "$2 segment gland",
                "$3 count lymphocyte in $1 out $2",
                "$4 boxes $3",
            ],
        ),
        (
            Intent("", (Want((TUMOR, NECROSIS), measures=True),)),
            ["$1 segment tumor", "$2 segment necrosis", "$3 measure $1", "$4 measure $2"],
        ),
        (
            Intent("", (Want((NECROSIS, TUMOR), share=True),)),
            ["$1 segment tumor", "$2 segment necrosis in $1", "$3 measure $1", "$4 measure $2"],
        ),
        (
            Intent("", (Want((LYMPHOCYTE,), (Scope(TUMOR), Scope(None, TUMOR))),)),
            ["$1 segment tumor", "$2 count lymphocyte in $1", "$3 count lymphocyte out $1"],
        ),
        (
            Intent("", (Want((region("glomerulus", "kidney"),), boxes=True),)),
            ["$1 tissue kidney", "$2 segment glomerulus", "$3 boxes $2"],
        ),
        (Intent("", asks_tissue=True), ["$1 tissue ?"]),
        (Intent("", (Want((cell(None),)),)), ["$1 count *"]),
        (Intent("", reply=Reply("decline", "grade")), ["$1 reply decline grade"]),
    ],
)
def test_the_plan_follows_from_the_intent(intent: Intent, expected: list[str]) -> None:
    assert lines(intent) == expected


def test_a_follow_up_reuses_what_the_thread_has() -> None:
    first = plan(Intent("", (Want((cell("hepatocyte", "liver"),), (Scope(TUMOR),)),)), Ledger())
    thread = first.ledger
    assert lines(Intent("", (Want((Known(3, LYMPHOCYTE),), boxes=True),)), thread) == [
        "$4 boxes $3"
    ]
    again = Intent("", (Want((cell("kupffer cell", "liver"),), (Scope(TUMOR),)),))
    assert lines(again, thread) == ["$4 count kupffer cell in $2"]
    other = Intent("", (Want((region("glomerulus", "kidney"),)),))
    assert lines(other, thread) == ["$4 tissue kidney", "$5 segment glomerulus"]
    same = Intent("", (Want((cell("hepatocyte", "liver"),), (Scope(TUMOR),)),))
    assert lines(same, thread) == ["$4 reply answer result"]


def test_organs_beside_the_point_are_not_checked() -> None:
    seen = 0
    for example in MADE:
        if "background" not in example.tags or example.history or example.tags[0].endswith("is"):
            continue
        expected = [c["args"]["expected"] for c in example.plan if c["tool"] == "classify_tissue"]
        seen += not expected
    assert seen > 10


def test_an_exclusion_that_is_added_keeps_the_place() -> None:
    added = (e for e in examples(7, 20000) if e.tags[0] == "intent:follow.same.without")
    kept = 0
    while kept < 3:
        example = next(added)
        args = example.plan[-1]["args"]
        assert args["outside"] is not None, example.instruction
        kept += args["within"] is not None


def test_nothing_is_looked_for_in_a_part_of_what_is_left_out_or_in_all_of_the_tissue() -> None:
    for example in MADE:
        calls = [*(call for turn in example.history for call in turn.calls), *example.plan]
        for call in example.plan:
            within, outside = (call["args"].get(name) for name in ("within", "outside"))
            if within is not None:
                place = calls[int(within[1:]) - 1]["args"]
                assert place["target"] != "tissue", example.instruction
                assert outside is None or place["within"] != outside, example.instruction


def test_what_is_recalled_is_stated_in_the_thread() -> None:
    recalled = [e for e in MADE if e.tags[0].startswith("intent:answer.recalled")]
    assert len(recalled) > 30
    for example in recalled:
        assert [call["args"]["kind"] for call in example.plan] == ["answer"]
        assert any(re.search(r"\d", turn.result) for turn in example.history)


def test_coined_phrases_are_copied() -> None:
    data = tomllib.loads(_file("lexicon/english.toml"))
    added = {word for words in data["modifiers"].values() for word in words}
    looks = [word for word in data["coined"]["looks"] if word not in added]
    known = {mention.target for mention, _ in lexicon("en").entities}
    found = 0
    for example in MADE:
        if example.tags[1] != "en" or example.history:
            continue
        for call in example.plan:
            target = call["args"].get("target") or call["args"].get("cell_type") or ""
            if target.startswith(tuple(looks)) and target not in known:
                copied = normalise(target.rpartition(" ")[0])
                assert copied in normalise(example.instruction), example.instruction
                found += 1
    assert found > 20


def _file(name: str) -> str:
    return (resources.files("models.planner.generate") / name).read_text("utf-8")


def test_the_lexicon_is_as_large_as_promised() -> None:
    entities = {mention.target for mention, _ in lexicon("en").entities}
    organs = {organ.expected for organ in lexicon("en").organs}
    assert len(entities) >= 300
    assert len(organs) >= 60
    for name, least in (("translations", 120), ("organs", 40)):
        rows = list(csv.DictReader(_file(f"lexicon/{name}.csv").splitlines()))
        assert len(rows) >= least
        assert all(all(row[code] for code in LANGUAGES[1:]) for row in rows)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_can_say_what_the_mix_asks_for(code: str) -> None:
    one, english = language(code), set(language("en").frames)
    english_only = ("share.predicate", "show.predicate", "where.quality")
    for name in english:
        if not name.startswith(english_only):
            one.section(name)
    for section, templates in one.frames.items():
        for template in templates:
            _check_forms(code, section, template)
    for name in mix()["request"]:
        if name not in ("compound", "idiom", "list", *english_only):
            assert all("x" in t.slots for t in one.frames[one.section(f"{name}.ask")]) or (
                name.startswith("tissue")
            )


def _check_forms(code: str, section: str, template: Template) -> None:
    grammar = language(code)
    for form in re.findall(r"\{\w+\.(\w+)\}", template.text):
        known = {"x", "s", "de", *grammar.agreement}
        for article, forms in grammar.articles.items():
            assert form in known or form in forms, (code, section, template.text, article)


@pytest.mark.parametrize(
    ("code", "noun", "template", "expected"),
    [
        ("de", said("Tumor", "der", plural=False), "{x.the}|{x.in}|{x.out}", None),
        ("de", said("weiße Substanz", "die", plural=False), "{x.in}", "in der weißen Substanz"),
        ("de", said("Drüsen", "die"), "{x.in}", "in den Drüsen"),
        ("de", said("Gefäße", "die"), "{x.in}", "in den Gefäßen"),
        ("de", said("Epithel", "das", plural=False), "{x.out}", "außerhalb des Epithels"),
        ("de", said("roten Blutkörperchen", "die"), "{x}", "rote Blutkörperchen"),
        ("fr", said("éosinophiles", "les"), "{x.de}", "d'éosinophiles"),
        ("fr", said("épiderme", "l'", plural=False), "{x.in}", "dans l'épiderme"),
        ("it", said("stroma", "lo", plural=False), "{x.in}", "nello stroma"),
        ("es", said("tumor", "el", plural=False), "fuera {x.of}", "fuera del tumor"),
        ("ca", said("glàndules", "les"), "{x.how} {x}", "quantes glàndules"),
        ("pt", said("estroma", "o", plural=False), "{x.in}", "no estroma"),
        ("en", said("stroma", plural=False), "{x.are} {x.the}", "is the stroma"),
    ],
)
def test_noun_phrases_take_the_form_that_the_frame_asks_for(
    code: str, noun: Noun, template: str, expected: str | None
) -> None:
    rendered = Template(template).render(DICE, language(code), {"x": (noun,)})
    assert rendered == (expected or "den Tumor|im Tumor|außerhalb des Tumors")


def test_several_nouns_are_joined() -> None:
    slots = {"x": (said("glands"), said("vessels"), said("villi"))}
    assert Template("{x.the}").render(DICE, language("en"), slots) == (
        "the glands, vessels and villi"
    )


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("glomerulus", "glomeruli"),
        ("mitosis", "mitoses"),
        ("apoptotic body", "apoptotic bodies"),
        ("islet of langerhans", "islets of langerhans"),
        ("fibrous septum", "fibrous septa"),
        ("TIL", "TILs"),
        ("lumen", "lumina"),
        ("abscess", "abscesses"),
        ("plasma cell", "plasma cells"),
    ],
)
def test_english_plurals(noun: str, plural: str) -> None:
    assert plural_of(noun) == plural


def test_british_spelling_is_only_what_the_ontology_reads_back() -> None:
    text = american_to_british("Count the tumor cells in the hemorrhage and germinal center")
    assert text == "Count the tumour cells in the haemorrhage and germinal centre"
    assert american_to_british("hemidesmosome temper") == "hemidesmosome temper"


def test_a_template_with_a_stray_bracket_is_refused() -> None:
    with pytest.raises(ValueError, match="unbalanced"):
        Template("count [the|all {x}")


def test_the_report_tells_varied_from_repeated() -> None:
    varied, repeated = diversity(MADE), diversity([MADE[0]] * 50)
    assert repeated.self_bleu == pytest.approx(1.0)
    assert repeated.unique == 0.0
    assert varied.self_bleu < 0.6
    assert varied.unique > 0.8
    assert sum(varied.shares["language"].values()) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no examples"):
        diversity([])


def test_the_command_prints_cases_and_the_report() -> None:
    run = CliRunner().invoke(app, ["--n", "5", "--seed", "4"])
    assert [Case.model_validate_json(line).id for line in run.stdout.splitlines()] == [
        f"4-{i}" for i in range(5)
    ]
    report = CliRunner().invoke(app, ["--n", "50", "--report"]).stdout
    assert "self-BLEU-4" in report
    assert "by language" in report


def test_a_place_brings_its_own_organ_and_an_adjective_of_place_none() -> None:
    organs = {mention.target: mention.organ for mention, _ in lexicon("it").entities}
    assert organs["alveolar space"] == "lung"
    assert organs["pericapsular fat"] is None
    cytoplasm = next(m for m, _ in lexicon("it").entities if m.target == "tumor cell cytoplasm")
    assert cytoplasm.noun.text == "citoplasma delle cellule tumorali"
