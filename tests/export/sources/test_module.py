"""Torch modules: what comes through the door computes what the module computes, and says where its weights are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from console.errors import EdgequiltError, StorageError, UnsupportedModel, UsageError, VerificationError
from export.capture import capture
from export.fold import freeze
from export.sources import module as door
from export.sources.captured import Captured, StatePair
from export.sources.deploy import deployed
from export.sources.factory import Offered
from tests.export.runtime import run, worst
from tests.export.sources import nets

HERE = Path(nets.__file__)


def taken(name: str, work: Path) -> Captured:
    """A factory of `nets.py` through the door."""
    return capture(f"{HERE}:{name}", "module", work)


def test_a_module_computes_what_it_did(tmp_path: Path) -> None:
    """Dropout off, any micro-batch, and every weight known by its module, transposed or not."""
    captured = taken("perceptron", tmp_path)
    module, _ = nets.perceptron()
    x = torch.randn(5, 3, 16)
    with torch.no_grad():
        wanted = module.eval()(x).numpy()
    got = run(freeze(captured.model, 5), {"x": x.numpy()})
    assert worst(got["output"], wanted) <= 1e-5
    assert (captured.task, captured.modality, captured.batches, captured.name) == (
        "module",
        "tensors",
        None,
        "perceptron",
    )
    assert set(captured.modules.values()) == {"conv", "blocks.0", "blocks.1"}
    parts = dict(module.named_modules())
    for name, path in captured.modules.items():
        held = captured.model.graph.initializers[name].const_value
        weight = parts[path].weight.detach().numpy()
        assert held is not None
        assert any(np.array_equal(held.numpy(), form) for form in (weight, weight.T))


def test_states_and_names_of_outputs_are_the_factorys(tmp_path: Path) -> None:
    """Inputs and outputs given by name keep their names, and states are pairs of them."""
    captured = taken("cell", tmp_path)
    assert [value.name for value in captured.model.graph.inputs] == ["x", "h"]
    assert [value.name for value in captured.model.graph.outputs] == ["y", "h_next"]
    assert captured.states == (StatePair("h", "h_next"),)


def test_the_sampling_rate_of_a_module_goes_along(tmp_path: Path) -> None:
    """A net of sounds has its rate among what boards are told, any other has nothing there."""
    assert taken("listener", tmp_path / "a").preprocess.parameters == {"sampling_rate": 8000}
    assert taken("perceptron", tmp_path / "b").preprocess.parameters == {}


def test_a_module_of_one_size_keeps_it(tmp_path: Path) -> None:
    """Where torch cannot export a free micro-batch, that of the example is the only one."""
    captured = taken("square", tmp_path)
    assert captured.batches == (4,)
    x = torch.randn(4, 4)
    assert worst(run(freeze(captured.model, 4), {"x": x.numpy()})["output"], (x @ x).numpy()) <= 1e-5


def test_the_serving_form_is_exported(tmp_path: Path) -> None:
    """Two parallel layers arrive as one."""
    captured = taken("twofold", tmp_path)
    assert sorted(captured.modules.values()) == ["0", "1.merged"]


def test_an_exported_program_is_taken(tmp_path: Path) -> None:
    """A program keeps the dimensions that it was exported with; its own name for rows becomes the micro-batch."""
    captured = taken("program", tmp_path)
    shape = captured.model.graph.inputs[0].shape
    assert shape is not None
    assert str(shape[0]) == "batch"


def outputs(module: nn.Module, rows: int = 3) -> list[torch.Tensor]:
    """Outputs on a fixed input of six features."""
    generator = torch.Generator().manual_seed(5)
    return [module(torch.randn(rows, 6, generator=generator))]


@pytest.mark.parametrize(
    ("make", "called", "kind"),
    [
        (nets.Twofold, ("switch_to_deploy",), nets.Twofold),
        (nets.Normed, ("fuse",), nn.Linear),
        (lambda: nn.Sequential(nets.Normed(), nets.Twofold()), ("0.fuse", "1.switch_to_deploy"), nn.Sequential),
        (lambda: nn.Linear(6, 6), (), nn.Linear),
    ],
)
def test_serving_forms(make: Callable[[], nn.Module], called: tuple[str, ...], kind: type[nn.Module]) -> None:
    """Each offer is called once, also deep inside; the module that was given stays as it was."""
    with torch.no_grad():
        module = make().eval()
        before, names = outputs(module), sorted(name for name, _ in module.named_parameters())
        served, found = deployed(module, outputs)
        assert found == called
        assert isinstance(served, kind)
        assert torch.allclose(outputs(served)[0], before[0], atol=1e-5)
        assert sorted(name for name, _ in module.named_parameters()) == names


def test_a_serving_form_that_computes_something_else_is_refused() -> None:
    """It fails by the name of what was called."""
    with torch.no_grad(), pytest.raises(VerificationError, match=r"after 1\.switch_to_deploy, found a relative diff"):
        deployed(nn.Sequential(nn.ReLU(), nets.Twofold(wrong=True)).eval(), outputs)


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    """The exporter's own check only warns; here a graph of other weights fails."""
    captured = taken("program", tmp_path)
    other = nn.Linear(6, 5)
    with torch.no_grad(), pytest.raises(VerificationError, match="expected the exported graph to agree with Linear"):
        door._compare(captured.original, Offered(other, (torch.randn(3, 6),)), other, fixed=True)


REFUSED: dict[str, tuple[str, type[EdgequiltError], str]] = {
    "raises": (f"{HERE}:raising", UnsupportedModel, r"nets.py:raising\(\).* raises RuntimeError: no weights; mend"),
    "ends the program": (f"{HERE}:leaving", UnsupportedModel, "raises SystemExit: 3"),
    "returns nothing": (f"{HERE}:nothing", UnsupportedModel, r"\(module, inputs\) or .*, found a NoneType instead"),
    "no example": (f"{HERE}:bare", UnsupportedModel, "found a Linear without example_inputs"),
    "no tensors": (f"{HERE}:numbers", UnsupportedModel, r"tensors as example inputs of .*, found int"),
    "does not run": (f"{HERE}:misfit", UnsupportedModel, "Linear to run on its example inputs, found RuntimeError"),
    "no such function": (f"{HERE}:absent", UnsupportedModel, "expected a function absent in .*, found .*Perceptron"),
    "no such file": ("nowhere.py:make", StorageError, "expected a Python file at nowhere.py, found none"),
    "no function": (f"{HERE}:", UsageError, "expected FILE.py:FACTORY"),
    "a pickled program": ("model.pt2", UsageError, r"return torch.export.load\(...\) from a factory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    """What a user's file may do wrong is told in one sentence, with the first line of the error."""
    source, error, words = REFUSED[case]
    with pytest.raises(error, match=words) as caught:
        capture(source, "module", tmp_path / "work")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    """Neither broken syntax nor a missing library is a traceback."""
    (tmp_path / "broken.py").write_text("def make(:\n")
    with pytest.raises(UnsupportedModel, match=r"broken.py to be imported, found that it raises SyntaxError: "):
        capture(f"{tmp_path}/broken.py:make", "module", tmp_path / "work")
    (tmp_path / "lacking.py").write_text("import there_is_no_such_library\n")
    with pytest.raises(UnsupportedModel, match="raises ModuleNotFoundError: No module named"):
        capture(f"{tmp_path}/lacking.py:make", "module", tmp_path / "work")


def test_a_module_that_torch_cannot_export(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The sentence has the module's class and the reason, and nothing of the exporter reaches the terminal."""
    with pytest.raises(UnsupportedModel, match=r"found that Branching cannot be \(.+\); see torch.export") as caught:
        taken("branching", tmp_path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
