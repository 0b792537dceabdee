"""The agent of a board: a core that talks and a worker that computes."""
