"""Plans that tests begin with."""

from __future__ import annotations

from devices.split.fleet_plan import BoardPlan, Captured, FleetPlan, Reason, TailPlan

UNITS = ("embeddings", "encoder.layer.0", "encoder.layer.1", "classifier")

GATE = BoardPlan(
    "gate",
    180 << 20,
    "split",
    2,
    "int8",
    {"encoder.layer.0.query": 4},
    16,
    memory_bytes=150 << 20,
    step_ns=10**9,
    round_ns=10**10,
    up_bytes=10**6,
    down_bytes=10**6,
    covered=0.25,
    profile="raspberry-pi-zero-2w",
    before="encoder.layer.1",
    cuts=(1,),
    coding="int8",
    labels="along",
    reasons=(Reason("border", "2 of 4 units", "what fits 180.0 MiB"),),
)
BARN = BoardPlan(
    "barn",
    800 << 20,
    "backprop",
    4,
    "int8",
    {"encoder.layer.0.query": 8, "encoder.layer.1.query": 8},
    32,
    memory_bytes=500 << 20,
    step_ns=10**9,
    round_ns=10**10,
    up_bytes=10**6,
    down_bytes=10**6,
    covered=0.5,
)
TAIL = TailPlan("server", 4 << 30, "int8", (2,), {"encoder.layer.1.query": 16}, 700 << 20, 10**9)
PLAN = FleetPlan(
    1,
    Captured("shared/minilm", "feature-extraction", 64, 2, "all-linear"),
    UNITS,
    4,
    10,
    (GATE, BARN),
    {"encoder.layer.0.query": 0.5, "encoder.layer.1.query": 0.5},
    TAIL,
)
