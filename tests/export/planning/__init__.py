"""Tests of `edgequilt plan`."""
