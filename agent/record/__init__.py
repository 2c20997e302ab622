"""The record of a run: the trace, its format, and what is done with it afterwards.

`spec.md` is the specification of the format; `schema.json` its JSON schema, printed by
`python -m agent.record.events`.
"""
