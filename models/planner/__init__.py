"""The embedded planner: a small language model with our adapter that writes plans.

`serialise` is the one text form of threads and plans, `replies` the sentences behind reply codes,
`grammar` what a plan line may be in a given state and how such lines make a plan, `fetch` and
`base` the base model's file and its converted form, `decode` the greedy decoder that can only write
valid plans, `fewshot` what the bare base model is shown.
"""
