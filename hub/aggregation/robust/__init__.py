"""Rules against bad boards, one published rule per file, over inner products of changes (hub.aggregation.gram)."""
