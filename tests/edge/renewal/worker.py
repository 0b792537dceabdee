"""The worker of the core, with a fault in its proofs (`python -m tests.edge.renewal.worker FAULT`)."""

from __future__ import annotations

import sys
from pathlib import Path

from edge import jobs, worker
from edge.renewing import OWN
from tests.edge.renewal.struck import struck
from tests.edge.slots.strike import StateFuse


def main() -> int:
    """Serve as the real one does."""
    fuse = StateFuse(Path(sys.argv[1]))
    own = struck(fuse, "own", jobs.perform, lambda desk, request, *more: request.id == OWN)
    jobs.perform = struck(fuse, "prove", own, lambda desk, request, *more: request.id != OWN)
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
