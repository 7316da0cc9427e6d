"""`python -m bench`: what the router costs, measured so that anyone can repeat it.

Four commands: the benchmark itself, `check` (did a change make something worse than the noise?), `quality` (how well
prompts are routed) and `soak` (does it survive a bad upstream and bad clients?).

The parts, in the order of the data's way: `arguments` → `stage` (the processes: `processes`, `mock`, `load`) →
`scenarios` (what is measured) → `rounds` (interleaved) → `figures` (medians and spread) → `report`.
"""
