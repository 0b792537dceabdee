"""Integers for activations too: onnxruntime's dynamic and static quantization, for graphs without slots."""
