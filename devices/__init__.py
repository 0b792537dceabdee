"""What a board is and what fits on it: profiles, budgets, the memory model, the planner."""
