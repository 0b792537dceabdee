"""What boards of unequal rank learn together on real text, method by method."""
