"""The weights that slots stand beside, as they are in the frozen graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.fold import freeze
from export.importance.weights import weights_of
from export.slots import insert_slots
from tests.export.test_convs import BATCH, CHANNELS, as_graph, random_layer, random_norm


@pytest.mark.parametrize("groups", [1, CHANNELS])
def test_a_convolution_has_its_weight_with_the_normalisation_behind_it(groups: int) -> None:
    """The matrix [in, out] of a slot's convolution is what is multiplied with, the folded factor in it."""
    layer, norm = random_layer(2, 3, out=8, groups=groups), random_norm(8)
    model = as_graph(layer, norm)
    (site,) = insert_slots(model, "features", ("lora",))
    (found,) = weights_of(freeze(model, BATCH, None), [site])
    factor = norm.weight / torch.sqrt(torch.as_tensor(norm.running_var) + norm.eps)
    folded = layer.weight * factor.reshape(-1, 1, 1, 1)  # type: ignore[operator]  # a parameter
    wanted = folded.detach().numpy().reshape(8, -1).T
    np.testing.assert_allclose(found.read(), wanted, rtol=1e-5)
    assert found.slot == site.name
    assert found.read().shape == (site.features_in, site.features_out)
    np.testing.assert_array_equal(found.matrix(folded.detach().numpy()), wanted)
