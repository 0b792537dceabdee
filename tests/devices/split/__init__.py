"""Tests of the planner over a fleet."""
