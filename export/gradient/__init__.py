"""Reverse-mode differentiation on ONNX graphs."""
