"""How an agent gets onto a card."""
