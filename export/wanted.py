"""What a command line says of a model, as `export.prepare` takes it; torch is loaded with this module."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from export.activations.given import read_calibration
from export.arguments_plan import grid, keeping, sizes, states
from export.prepare import Wanted


def wanted(options: argparse.Namespace, labels: Sequence[str]) -> Wanted:
    """The model that options of `export.arguments_plan.planning_options` name.

    Args:
        options: read.
        labels: of a head that is put on; none for the model's own outputs.

    Raises:
        UsageError: a size, a state, a format or a block that is none.
        BadData: the calibration items cannot be read.
    """
    return Wanted(
        options.model,
        options.task or "",
        len(labels),
        options.sequence[0],
        options.adapter_targets,
        tuple(kind.strip() for kind in options.adapter_kinds.split(",")),
        options.serve_graph,
        options.scale_inputs,
        sizes(options),
        states(options),
        {},
        keeping(options),
        grid(options),
        options.tables == "out",
        read_calibration(options.calibration, options.calibration_method),
        options.features,
        options.features_axis,
        options.train_activations,
        options.micro_batches,
        options.sequence[1:],
    )
