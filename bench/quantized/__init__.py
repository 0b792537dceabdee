"""Quantized models of several makers side by side; `bench.quantization` is the command."""
