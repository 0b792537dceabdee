"""A board's own data: what it holds (`row`), and one door per format that it may lie in."""

from edge.data.jsonl import check_data, read_data
from edge.data.row import Data, Row, is_held_out

__all__ = ["Data", "Row", "check_data", "is_held_out", "read_data"]
