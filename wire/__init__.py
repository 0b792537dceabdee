"""What crosses between machines, and what both sides must compute alike."""
