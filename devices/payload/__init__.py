"""What an agent needs on a board: files, links, a unit. Pure: flashing, installing and rootfs folders carry it there."""
