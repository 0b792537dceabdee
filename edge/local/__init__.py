"""What programs on the board itself may ask of the agent (docs/local-api.md)."""
