"""The hub as a program: messages in and out, one thread that owns everything."""
