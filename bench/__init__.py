"""Measurements of Cairn beside its rivals, in one run on one machine.

`python -m bench` (or `./run bench`) is the door. `bench.reflector` compares route
reflectors. Absolute figures belong to a machine; what is compared, printed and kept
are ratios of medians taken side by side, over work whose result is checked exactly.
"""
