"""How malloc is set in the process that runs graphs: read by the one that starts it, and by the memory model."""

from __future__ import annotations

MAPPED_FROM_BYTES = 65536

# The limit is fixed since glibc raises its own with every large block that is freed, and keeps all smaller ones in a
# heap, where they fragment until nothing goes back (mallopt(3)): a small convolutional net whose session has no arena
# then grew by its largest activation with every run.
MALLOC = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(MAPPED_FROM_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(MAPPED_FROM_BYTES),
}
