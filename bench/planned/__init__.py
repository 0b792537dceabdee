"""What a plan of a fleet says of each board, beside what workers of agents take: `python -m bench.planned`."""
