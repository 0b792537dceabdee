"""How much each weight matters to the loss: two published measures, what is said of them, and a file."""
