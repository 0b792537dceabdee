"""Ways to find the range of an activation from what was seen of it."""

from __future__ import annotations

from typing import Literal

Method = Literal["minmax", "entropy", "percentile"]
# by our names, what onnxruntime calls them
METHODS: dict[Method, str] = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
