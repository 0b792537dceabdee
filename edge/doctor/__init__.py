"""What is wrong with a board, and how to mend it: a table of checks, each one a look and a judgement apart from it."""
