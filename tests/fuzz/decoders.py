"""Every door through which bytes from outside come in; a test holds it against the code."""

from __future__ import annotations

from tests.fuzz.decoders_devices import DEVICES
from tests.fuzz.decoders_edge import EDGE
from tests.fuzz.decoders_hub import HUB
from tests.fuzz.decoders_identity import IDENTITY
from tests.fuzz.decoders_importance import IMPORTANCE
from tests.fuzz.decoders_local import LOCAL
from tests.fuzz.decoders_slots import SLOTS
from tests.fuzz.decoders_split import SPLIT
from tests.fuzz.decoders_wire import WIRE

DECODERS = (*WIRE, *EDGE, *HUB, *IDENTITY, *LOCAL, *DEVICES, *SLOTS, *SPLIT, *IMPORTANCE)
BY_NAME = {decoder.name: decoder for decoder in DECODERS}
