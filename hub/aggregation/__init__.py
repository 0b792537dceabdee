"""How many unequal updates become one: one method per file, plain arrays in and out."""
