"""A board's own data: rows, some of them kept back, behind one door per format that they may lie in (docs/data.md)."""

from edge.data.board import Counted, board_data, count_board
from edge.data.formats import count_data, open_data, read_data
from edge.data.row import Data, Row, is_held_out

__all__ = ["Counted", "Data", "Row", "board_data", "count_board", "count_data", "is_held_out", "open_data", "read_data"]
