"""What forward-only training costs and gives; `python -m bench.forward_only`."""
