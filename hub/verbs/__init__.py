"""`edgequilt hub VERB`: one file per noun, each with its options and what they do."""
