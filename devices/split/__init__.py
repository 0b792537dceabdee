"""Who holds which part of a model, of which ranks, in which time: the planner over a whole fleet (docs/plan.md)."""
