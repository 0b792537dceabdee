"""Trainers: how a board learns, one paper to a file, numpy only; none of them needs another.

What they share is `interface` (what goes in, what comes out, what survives a restart) and `directions` (how arrays
lie along a stream of signs). docs/trainers.md has the formulas.
"""
