"""Which format each layer gets: the least error within bytes, or within bytes and time.

Plain numbers in, a decision out, like `devices.plan`. A layer is whatever shares one weight: tied ones are one layer.
Errors add up: give what makes that true, such as the squared error at the outputs on calibration input.

Within bytes the choice is exact (`devices.knapsack`). Time as a second limit gets a price (Fisher, "The Lagrangian
relaxation method for solving integer programming problems", Management Science 27(1), 1981): for each price of a
nanosecond the choice within bytes is exact again, and no choice within both limits has less error than

    least over choices within bytes of  error + price (time - limit)

The price of the best bound is found as Handler and Zang do ("A dual algorithm for the constrained shortest path
problem", Networks 10, 1980): that at which a choice that is too slow and one that is fast enough weigh the same, until
no choice between them weighs less. The answer comes with its bound; whether any choice fits is known exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from console.errors import DoesNotFit, UsageError
from console.table import mib, shown
from devices.knapsack import Classes, Solution, solve

PRICES = 100  # tried at most; a handful is what it takes
SLACK = 1e-12  # of sums in another order


@dataclass(frozen=True)
class Option:
    """What a format makes of a layer: bytes stored, error added, time of one run."""

    format: str
    stored_bytes: int
    error: float
    time_ns: int = 0


@dataclass(frozen=True)
class Layer:
    """A weight and the formats that it can take, at least one."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Choice:
    """One option per layer, in their order.

    `least_error` is what no choice within the limits has less than; where it equals `error` the choice is optimal.
    """

    options: tuple[Option, ...]
    least_error: float

    @property
    def formats(self) -> tuple[str, ...]:
        """Of each layer."""
        return tuple(option.format for option in self.options)

    @property
    def stored_bytes(self) -> int:
        """Of all layers."""
        return sum(option.stored_bytes for option in self.options)

    @property
    def error(self) -> float:
        """Of all layers."""
        return math.fsum(option.error for option in self.options)

    @property
    def time_ns(self) -> int:
        """Of all layers."""
        return sum(option.time_ns for option in self.options)


def choose(layers: Sequence[Layer], limit_bytes: int, limit_ns: int | None = None) -> Choice:
    """The formats of least error that fit.

    Args:
        layers: what is to be stored; none is an empty choice.
        limit_bytes: of all layers together.
        limit_ns: of one run of all layers; no limit if None.

    Raises:
        DoesNotFit: not even the smallest formats are within the bytes, or the fastest within the time.
        ValueError: a layer without options, or with an error that is negative or no number.

    >>> linear = Layer("linear", (Option("fp32", 400, 0.0), Option("int8", 100, 0.1)))
    >>> choose([linear, linear], 500).formats
    ('fp32', 'int8')
    """
    _check(layers)
    if not layers:
        return Choice((), 0.0)
    found = _chosen(layers, _solved(layers, _errors(layers), limit_bytes))
    if limit_ns is None or found.time_ns <= limit_ns:
        return found
    return _within_time(layers, limit_bytes, limit_ns, found)


def kept(layers: Sequence[Layer], formats: Mapping[str, str]) -> list[Layer]:
    """Layers with their formats fixed by name patterns; the last pattern that matches a layer decides.

    Args:
        layers: with all their options.
        formats: format by pattern, `*` and `?` as in a shell.

    Raises:
        UsageError: a pattern matches no layer, or a layer cannot take its format; all such are named.

    >>> head = Layer("head", (Option("fp32", 400, 0.0), Option("int8", 100, 0.1)))
    >>> kept([head], {"h*": "int8"})[0].options[0].format
    'int8'
    """
    problems, out = [], list(layers)
    for pattern, name in formats.items():
        matching = [k for k, layer in enumerate(layers) if fnmatchcase(layer.name, pattern)]
        if not matching:
            problems.append(f"{shown(pattern)} matches none of {len(layers)} layers")
        for k in matching:
            options = tuple(option for option in layers[k].options if option.format == name)
            if options:
                out[k] = replace(layers[k], options=options)
            else:
                can = ", ".join(option.format for option in layers[k].options)
                problems.append(f"{shown(layers[k].name)} cannot be {shown(name)}, only {can}")
    if problems:
        raise UsageError(f"expected --keep PATTERN=FORMAT for layers of this model, but {'; '.join(problems)}")
    return out


def _solved(layers: Sequence[Layer], costs: Sequence[Sequence[float]], limit_bytes: int) -> Solution:
    """The options of least cost within the bytes; raises DoesNotFit."""
    weights = [[option.stored_bytes for option in layer.options] for layer in layers]
    solution = solve(Classes.of(weights, costs), limit_bytes)
    if solution is None:
        least = sum(min(w) for w in weights)
        raise DoesNotFit(
            f"expected formats within {mib(limit_bytes)} ({limit_bytes} bytes), but the smallest of all "
            f"{len(layers)} layers take {mib(least)} ({least} bytes); give more bytes or allow smaller formats"
        )
    return solution


def _within_time(layers: Sequence[Layer], limit_bytes: int, limit_ns: int, slow: Choice) -> Choice:
    """Between the best choice within the bytes, which is too slow, and the fastest one: see the top."""
    fast = _chosen(
        layers, _solved(layers, [[float(o.time_ns) for o in layer.options] for layer in layers], limit_bytes)
    )
    if fast.time_ns > limit_ns:
        raise DoesNotFit(
            f"expected formats within {limit_ns / 1e6:.3f} ms and {mib(limit_bytes)}, but the fastest that are within "
            f"the bytes take {fast.time_ns / 1e6:.3f} ms; give more time or more bytes"
        )
    bound, best = slow.least_error, _filled(layers, fast, limit_bytes, limit_ns)
    for _ in range(PRICES):
        price = (fast.error - slow.error) / (slow.time_ns - fast.time_ns)
        costs = [[option.error + price * option.time_ns for option in layer.options] for layer in layers]
        solution = _solved(layers, costs, limit_bytes)
        bound = max(bound, solution.bound - price * limit_ns)
        found = _chosen(layers, solution)
        if solution.cost >= (slow.error + price * slow.time_ns) * (1 - SLACK):
            break
        if found.time_ns > limit_ns:
            slow = found
            continue
        fast = found
        best = min(best, _filled(layers, found, limit_bytes, limit_ns), key=lambda choice: choice.error)
    return replace(best, least_error=min(bound, best.error))


def _filled(layers: Sequence[Layer], choice: Choice, limit_bytes: int, limit_ns: int) -> Choice:
    """A choice within both limits, improved layer by layer while room is left: most error first."""
    options, size, time = list(choice.options), choice.stored_bytes, choice.time_ns
    while True:
        swaps = [
            (now.error - option.error, k, option)
            for k, (layer, now) in enumerate(zip(layers, options, strict=True))
            for option in layer.options
            if option.error < now.error
            and size + option.stored_bytes - now.stored_bytes <= limit_bytes
            and time + option.time_ns - now.time_ns <= limit_ns
        ]
        if not swaps:
            return replace(choice, options=tuple(options))
        _, k, option = max(swaps, key=lambda swap: swap[0])
        size += option.stored_bytes - options[k].stored_bytes
        time += option.time_ns - options[k].time_ns
        options[k] = option


def _errors(layers: Sequence[Layer]) -> list[list[float]]:
    return [[option.error for option in layer.options] for layer in layers]


def _chosen(layers: Sequence[Layer], solution: Solution) -> Choice:
    return Choice(tuple(layer.options[j] for layer, j in zip(layers, solution.chosen, strict=True)), solution.bound)


def _check(layers: Sequence[Layer]) -> None:
    for layer in layers:
        if not layer.options:
            raise ValueError(f"expected formats for the layer {layer.name}, found none")
        for option in layer.options:
            if not 0 <= option.error < math.inf:
                raise ValueError(
                    f"expected an error of {option.format} at the layer {layer.name} that is a number from 0 up, "
                    f"found {option.error}"
                )
