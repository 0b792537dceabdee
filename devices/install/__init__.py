"""How an agent gets onto a board that runs: look, decide, send, switch, wait. Over SSH; no board imports this."""
