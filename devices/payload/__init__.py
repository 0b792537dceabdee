"""What an agent needs on a board: files, links, a unit. Flashing and installing carry it there."""
