"""The planner's training data: typed intents, said in many ways, with the plan that is right.

`examples` is the whole interface; `python -m models.planner.generate` prints them as cases. What
is spoken of is in `lexicon/`, how in `frames/`, how often in `mix.toml`; `dialogues/` has threads
that were written one by one.
"""

from models.planner.generate.examples import Example, examples

__all__ = ["Example", "examples"]
