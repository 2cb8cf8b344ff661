"""Times hpctrain against other programs that train networks on equations.

`python -m benchmarks.peers` runs them, each in an environment of its own, from the same start and
on the same cores. `cases.py` says what is solved, `programs.py` by what; `workers/` has a script
for each.
"""
