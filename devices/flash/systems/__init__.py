"""What depends on the operating system of an image: which one it is, and what has to be written into it."""
