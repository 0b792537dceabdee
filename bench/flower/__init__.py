"""A fleet's rounds through this hub and through Flower, side by side: `python -m bench.flower`."""
