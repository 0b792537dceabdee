"""Recurrent operators written out as steps of plain operators, so that they can be trained through."""
