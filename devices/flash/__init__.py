"""How an agent gets onto a card: plan, stage, inject, write, read back. No board imports this."""
