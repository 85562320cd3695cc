"""The benchmarks: one file per question, one shared harness.

`make bench` runs them all, `python -m bench roundtrip` one.

Every question is answered by a ratio of contenders that took turns in one run on one machine.
"""
