"""What a round is, what moves it on, and who takes part."""
