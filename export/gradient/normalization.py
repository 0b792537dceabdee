"""Rules of normalizations: by layer, batch, instance, group and length."""

from __future__ import annotations

from functools import cache, partial

import onnx_ir as ir

from export.gradient.dims import Dims, dims_of, dtype_of, size_of
from export.gradient.outputs import output
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape


def _axes(c: Call) -> list[int]:
    rank = len(dims_of(c.input(0)))
    return list(range(c.int("axis", -1) % rank, rank))


def _statistics(t: Tape, node: ir.Node, dims: Dims, dtype: ir.DataType) -> tuple[ir.Value, ir.Value]:
    """The mean and the inverse deviation that the operator computes anyway, as its outputs 2 and 3."""
    return output(t, node, 1, dims, dtype), output(t, node, 2, dims, dtype)


@rule("LayerNormalization")
def layer_normalization(t: Tape, c: Call) -> Products:
    """Ba, Kiros and Hinton, arXiv:1607.06450: y = h scale + bias, h = (x - mean) inv.

    q = g scale: dx = inv (q - mean(q) - h mean(q h)); dscale = red(g h, scale); dbias = red(g, bias).
    """
    x, scale, axes = c.input(0), c.input(1), _axes(c)
    kept = tuple(1 if i in axes else dim for i, dim in enumerate(dims_of(x)))
    stash = ir.DataType(c.int("stash_type", int(ir.DataType.FLOAT)))

    @cache
    def statistics() -> tuple[ir.Value, ir.Value]:
        mean, inv = _statistics(t, c.node, kept, stash)
        return t.cast(mean, dtype_of(x)), t.cast(inv, dtype_of(x))

    @cache
    def h() -> ir.Value:
        mean, inv = statistics()
        return t.mul(t.sub(x, mean), inv)

    def dx() -> ir.Value:
        q = t.mul(c.g, scale)
        centred = t.sub(q, t.reduce_mean(q, axes))
        slope = t.reduce_mean(t.mul(q, h()), axes)
        return t.mul(t.sub(centred, t.mul(h(), slope)), statistics()[1])

    return {
        0: dx,
        1: lambda: t.red(t.mul(c.g, h()), scale),
        2: lambda: t.red(c.g, c.input(2)),
    }


@rule("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(t: Tape, c: Call) -> Products:
    """Zhang and Sennrich, arXiv:1910.07467, equation 4: y = h scale, h = x inv, inv = 1/sqrt(mean(x x) + eps).

    q = g scale: dx = inv (q - h mean(q h)); dscale = red(g h, scale). inv is computed again from x.
    """
    x, scale, axes = c.input(0), c.input(1), _axes(c)
    epsilon = c.float("epsilon", 1e-5)

    @cache
    def inv() -> ir.Value:
        square = t.reduce_mean(t.mul(x, x), axes)
        return t.unary("Reciprocal", t.unary("Sqrt", t.add(square, epsilon)))

    @cache
    def h() -> ir.Value:
        return t.mul(x, inv())

    def dx() -> ir.Value:
        q = t.mul(c.g, scale)
        slope = t.reduce_mean(t.mul(q, h()), axes)
        return t.mul(t.sub(q, t.mul(h(), slope)), inv())

    return {0: dx, 1: lambda: t.red(t.mul(c.g, h()), scale)}


def _per_channel(t: Tape, vector: ir.Value, x: ir.Value) -> ir.Value:
    """A vector over channels, shaped to meet the axes of `x` [items, channels, ...]."""
    return t.unsqueeze(vector, list(range(1, len(dims_of(x)) - 1)))


def _over_channels(t: Tape, value: ir.Value) -> ir.Value:
    """`value` [items, channels, ...] summed to [channels]."""
    return t.reduce_sum(value, [i for i in range(len(dims_of(value))) if i != 1], keepdims=False)


def _learns(node: ir.Node) -> str | None:
    mode = node.attributes.get("training_mode")
    return "attribute training_mode is set" if mode is not None and mode.as_int() else None


@rule("BatchNormalization", check=_learns)
def batch_normalization(t: Tape, c: Call) -> Products:
    """Ioffe and Szegedy, arXiv:1502.03167, algorithm 2: y = h scale + bias, h = (x - mean) inv, statistics given.

    With inv = 1/sqrt(var + eps) and q = g scale inv, each summed over all axes but channels: dx = q,
    dscale = g h, dbias = g, dmean = -q, dvar = -q h inv / 2.
    """
    x, scale, mean, var = (c.input(i) for i in (0, 1, 3, 4))
    inv = cache(lambda: t.unary("Reciprocal", t.unary("Sqrt", t.add(var, c.float("epsilon", 1e-5)))))
    wide = partial(_per_channel, t, x=x)
    h = cache(lambda: t.mul(t.sub(x, wide(mean)), wide(inv())))
    gh = cache(lambda: _over_channels(t, t.mul(c.g, h())))
    return {
        0: lambda: t.mul(c.g, wide(t.mul(scale, inv()))),
        1: gh,
        2: lambda: _over_channels(t, c.g),
        3: lambda: t.neg(t.mul(_over_channels(t, c.g), t.mul(scale, inv()))),
        4: lambda: t.mul(t.mul(gh(), t.mul(scale, t.mul(inv(), inv()))), -0.5),
    }


def _standardized(t: Tape, x: ir.Value, axes: list[int], epsilon: float) -> tuple[ir.Value, ir.Value]:
    """`h = (x - mean) inv` over `axes` and `inv = 1/sqrt(variance + epsilon)`."""
    centred = t.sub(x, t.reduce_mean(x, axes))
    variance = t.reduce_mean(t.mul(centred, centred), axes)
    inv = t.unary("Reciprocal", t.unary("Sqrt", t.add(variance, epsilon)))
    return t.mul(centred, inv), inv


def _pulled(t: Tape, q: ir.Value, h: ir.Value, inv: ir.Value, axes: list[int]) -> ir.Value:
    """The gradient of x from that of h: inv (q - mean(q) - h mean(q h)) over `axes`."""
    slope = t.reduce_mean(t.mul(q, h), axes)
    return t.mul(t.sub(t.sub(q, t.reduce_mean(q, axes)), t.mul(h, slope)), inv)


@rule("InstanceNormalization")
def instance_normalization(t: Tape, c: Call) -> Products:
    """Ulyanov, Vedaldi and Lempitsky, arXiv:1607.08022: y = h scale + bias, statistics per item and channel.

    q = g scale: dx = inv (q - mean(q) - h mean(q h)); dscale = sum(g h), dbias = sum(g) per channel.
    """
    x, scale = c.input(0), c.input(1)
    axes = list(range(2, len(dims_of(x))))
    parts = cache(lambda: _standardized(t, x, axes, c.float("epsilon", 1e-5)))
    return {
        0: lambda: _pulled(t, t.mul(c.g, _per_channel(t, scale, x)), *parts(), axes),
        1: lambda: _over_channels(t, t.mul(c.g, parts()[0])),
        2: lambda: _over_channels(t, c.g),
    }


@rule("GroupNormalization")
def group_normalization(t: Tape, c: Call) -> Products:
    """Wu and He, arXiv:1803.08494, equations 1 to 6: as above, statistics per item and group of channels.

    Before opset 21 scale and bias are per group; then their gradients are summed over each group.
    """
    x, scale, groups = c.input(0), c.input(1), c.int("num_groups", 1)
    items, channels, *spatial = dims_of(x)
    parted = (items, groups, size_of([channels, *spatial]) // groups)
    grouped = t.opset < 21
    narrow = parted if grouped else dims_of(x)
    parts = cache(lambda: _standardized(t, t.reshape(x, parted), [2], c.float("epsilon", 1e-5)))

    def dx() -> ir.Value:
        g = t.reshape(c.g, narrow)
        q = t.reshape(t.mul(g, _per_channel(t, scale, g)), parted)
        return t.reshape(_pulled(t, q, *parts(), [2]), dims_of(x))

    return {
        0: dx,
        1: lambda: _over_channels(t, t.mul(t.reshape(c.g, narrow), t.reshape(parts()[0], narrow))),
        2: lambda: _over_channels(t, t.reshape(c.g, narrow)),
    }


@rule("LpNormalization")
def lp_normalization(t: Tape, c: Call) -> Products:
    """`y = x / n`, n = sum(|x|) or sqrt(sum(x x)): dx = (g - s sum(g y)) / n, s = sign(x) or y; 0 where n is 0."""
    x = c.input(0)
    axes = [c.int("axis", -1) % len(dims_of(x))]

    def product() -> ir.Value:
        gy = t.reduce_sum(t.mul(c.g, c.y), axes)
        if c.int("p", 2) == 1:
            n, s = t.reduce_sum(t.unary("Abs", x), axes), t.unary("Sign", x)
        else:
            n, s = t.unary("Sqrt", t.reduce_sum(t.mul(x, x), axes)), c.y
        zero = t.binary("Equal", n, 0.0, ir.DataType.BOOL)
        return t.div(t.where(zero, 0.0, t.sub(c.g, t.mul(s, gy))), t.where(zero, 1.0, n))

    return {0: product}


@rule("MeanVarianceNormalization")
def mean_variance_normalization(t: Tape, c: Call) -> Products:
    """`y = (x - mean) inv, inv = 1/(sqrt(mean((x - mean)^2)) + 1e-9)`: dx = inv (g - mean(g) - y mean(g y))."""
    x, attribute = c.input(0), c.node.attributes.get("axes")
    axes = [0, 2, 3] if attribute is None else [axis % len(dims_of(x)) for axis in attribute.as_ints()]

    def dx() -> ir.Value:
        apart = t.sub(x, t.reduce_mean(x, axes))
        inv = t.div(1.0, t.add(t.unary("Sqrt", t.reduce_mean(t.mul(apart, apart), axes)), 1e-9))
        slope = t.reduce_mean(t.mul(c.g, c.y), axes)
        return t.mul(t.sub(t.sub(c.g, t.reduce_mean(c.g, axes)), t.mul(c.y, slope)), inv)

    return {0: dx}
