"""How an agent gets onto a card: an image is planned, staged, injected, written and read back. No board imports this."""
