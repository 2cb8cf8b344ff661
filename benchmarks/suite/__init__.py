"""Trains the equations of the field, and compares with the best published errors.

`python -m benchmarks.suite` runs what is missing and writes the table. `rows.toml` says what is
compared with what, `plan.py` how all of it is trained.
"""
