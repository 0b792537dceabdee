"""Numbers on the hub's command line."""

from __future__ import annotations

import pytest

from console.errors import UsageError
from hub.verbs.main import main


@pytest.mark.parametrize(
    "line",
    [
        "up . --port 99999",
        "up . --web-port -1",
        "round open --kind train --steps -1",
        "round open --kind train --batch 0",
        "round open --kind train --learning-rate nan",
        "round open --kind train --buffer 0",
        "round open --kind statistics --deadline -5",
        "round show 99999999999999999999999",
        "round stop 0",
        "deployment show 99999999999999999999999",
        "fix --undo 99999999999999999999999",
        "watch --every 0",
    ],
)
def test_a_number_that_cannot_be_is_refused_before_any_hub_is_asked(line: str) -> None:
    """No port, count, length of time or number of a round that cannot be gets as far as a hub."""
    with pytest.raises(UsageError, match=r"argument .*: expected a (whole )?number"):
        main(line.split())
