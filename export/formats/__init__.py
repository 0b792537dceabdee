"""How weights are stored in graphs: one file per family of formats, and the rewriting that puts them in."""
