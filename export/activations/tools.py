"""The one door to onnxruntime's quantization tools; nothing that they do to a process outlives a call.

They configure the root logger when they are imported, warn on it while they work, print what they count, and write
copies of the model to the system's folder for temporary files. Here they write to a folder that is given, in silence,
and everything is as before afterwards. Process-wide settings are changed meanwhile: one call at a time, from one
thread.

`quantize_static` is taken apart into its calibrator and its quantizer, for two of its settings (1.23 to 1.31) do
nothing or harm: "entropy" looks for a range among 128 bins of which it wants to keep 128, so it always finds the
whole range, and `CalibMaxIntermediateOutputs` forgets all but the last few runs.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from console.errors import EdgequiltError, UnsupportedModel
from export.activations.methods import METHODS, Method
from export.quiet import quiet

Run = Mapping[str, NDArray[Any]]

FLOAT = int(onnx.TensorProto.FLOAT)
WARNINGS, ERRORS_ONLY = 2, 3  # the first is the runtime's default; what was set cannot be asked for
LEVELS = 256  # of uint8
ENTROPY_BINS = 2 * LEVELS  # its histogram; the search takes as many steps as there are more bins than levels


def dynamic_file(
    source: Path, target: Path, nodes: Sequence[str], op_type: str, *, signed: bool, per_channel: bool, reduce: bool
) -> None:
    """`quantize_dynamic` of the named nodes, which all are of one operator; inputs become uint8 as they come.

    Args:
        source: the graph; it and its weights stay as they are.
        target: written beside the other files of its folder, with its weights in a file `NAME.data`.
        nodes: names of nodes.
        op_type: their operator, "MatMul" or "Conv".
        signed: weights as int8, else as uint8 with a zero point.
        per_channel: a scale for every output channel.
        reduce: weights in seven bits, for processors whose products of eight bits saturate.

    Raises:
        UnsupportedModel: the tool gives up.
    """
    with _alone(target.parent):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            str(source),
            str(target),
            op_types_to_quantize=[op_type],
            per_channel=per_channel,
            reduce_range=reduce,
            weight_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            nodes_to_quantize=list(nodes),
            use_external_data_format=True,
            extra_options={"DefaultTensorType": FLOAT},
        )


def static_file(
    source: Path,
    target: Path,
    nodes: Sequence[str],
    op_types: Sequence[str],
    runs: Sequence[Run],
    method: Method,
    *,
    reduce: bool,
) -> None:
    """What `quantize_static` does with the named nodes in its QDQ format: uint8 inputs, int8 weights.

    Args:
        source: the graph; it and its weights stay as they are.
        target: written beside the other files of its folder, with its weights in a file `NAME.data`.
        nodes: names of nodes.
        op_types: their operators.
        runs: what to calibrate with: feeds of the graph.
        method: how a range follows from what was seen.
        reduce: weights in seven bits.

    Raises:
        UnsupportedModel: the tool gives up.
    """
    with _alone(target.parent):
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, create_calibrator

        types = sorted(set(op_types))
        calibrator = create_calibrator(
            source,
            types,
            augmented_model_path=str(target.parent / "calibrated.onnx"),
            calibrate_method=CalibrationMethod[METHODS[method]],
            use_external_data_format=True,
            extra_options={"num_bins": ENTROPY_BINS, "num_quantized_bins": LEVELS} if method == "entropy" else {},
        )
        # all at once: histograms are merged only if the first run has the widest range
        calibrator.collect_data(_Reader(runs))
        ranges = calibrator.compute_data()
        quantizer = QDQQuantizer(
            onnx.load(source),
            per_channel=True,
            reduce_range=reduce,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=list(nodes),
            nodes_to_exclude=[],
            op_types_to_quantize=types,
            extra_options={
                "DefaultTensorType": FLOAT,
                # what a product adds up to goes on in float: sums, normalizations and softmax read it
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target), True)


class _Reader:
    """Runs one after the other, as the tool asks for them (its CalibrationDataReader)."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._left = iter(runs)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next run's feeds; None behind the last."""
        run = next(self._left, None)
        return None if run is None else dict(run)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Temporary files go to `work`; logging and the folder of temporary files are as before afterwards."""
    root, folder = logging.getLogger(), tempfile.tempdir
    ort.set_default_logger_severity(ERRORS_ONLY)  # calibration runs with options of the tool's own
    handlers, level = list(root.handlers), root.level
    tempfile.tempdir = str(work)
    try:
        with quiet(), redirect_stdout(io.StringIO()):
            yield
    except (EdgequiltError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as problem:
        said = " ".join(str(problem).split()) or type(problem).__name__
        raise UnsupportedModel(
            f"expected onnxruntime's tool to quantize the graph, it gave up ({said[:300]}); "
            "take --quant int8, whose activations stay in float"
        ) from problem
    finally:
        ort.set_default_logger_severity(WARNINGS)
        tempfile.tempdir = folder
        root.handlers[:] = handlers
        root.setLevel(level)
