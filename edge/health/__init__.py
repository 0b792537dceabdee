"""How the board itself is: heat, power, room; and when that is worth a word."""
