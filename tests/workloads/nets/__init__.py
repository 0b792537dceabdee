"""Torch modules as a user would keep them: a file each, with a function `build` that makes the module."""
