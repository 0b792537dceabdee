"""Releases of the agent that the hub serves to boards, and which device gets which."""
