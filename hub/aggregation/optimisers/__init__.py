"""What the hub does with the mean change of a round before it becomes a version, one published optimiser per file.

All of them act on the change of the product A B, not of factors, whose basis is another in every version: for plain
and momentum it stays factored, elementwise moments are whole matrices (hub.making.remembering keeps them on disk).
"""
