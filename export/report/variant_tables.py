"""What a variant does to noise and to decisions, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from console.table import shown
from export.report.variant import Amplified, Decided, Variant
from quant.amplification import heard
from quant.geometry import Geometry
from quant.variants import ClassAngles

NOISE = ["noise", "fp32", "variant", "growth", "fp32, 95 %", "variant, 95 %", "growth, 95 %"]
MARGINS = ["of the margins", "fp32", "variant"]
FLIPS = ["sample", "fp32", "margin", "variant", "its margin"]
ANGLES = ["degrees", "fp32", "variant"]
PLACES = ["median", "fp32", "variant"]


def variant_tables(found: Variant | None, labels: Sequence[str]) -> list[tuple[str, list[str], list[list[object]]]]:
    """Title, header and rows of everything that was measured."""
    told: list[tuple[str, list[str], list[list[object]]]] = []
    if found is not None and found.noise is not None:
        enters = ", ".join(map(shown, found.noise.enters))
        rows = [noise_row(one) for one in found.noise.sizes]
        told.append((f"noise on {enters}, how much more of it is in {shown(found.noise.output)}", NOISE, rows))
    if found is None or found.decided is None:
        return told
    decided = found.decided
    title = f"margins of {decided.samples} samples, largest less second of {shown(decided.output)}"
    told.append((title, MARGINS, margin_rows(decided)))
    told.append(
        (f"samples in another class, {decided.flipped} of {decided.samples}", FLIPS, flip_rows(decided, labels))
    )
    if decided.angles is not None:
        told.append(("directions of the classes", ANGLES, angle_rows(decided.angles)))
    if decided.geometry is not None:
        told.append(("features beside the class that fp32 chooses", PLACES, place_rows(decided.geometry)))
    return told


def noise_row(one: Amplified) -> list[object]:
    """Amplification of noise of one size, the median and the 95 % quantile over samples and draws."""
    pairs = [(one.exact, one.variant), (one.exact_high, one.variant_high)]
    cells = [f"{x:.3g}" for exact, variant in pairs for x in (exact, variant, heard(variant) / heard(exact))]
    return [f"{100 * one.size:g} %", *cells]


def margin_rows(decided: Decided) -> list[list[object]]:
    """A row per quantile."""
    found = zip(decided.quantiles, decided.exact_margins, decided.variant_margins, strict=False)
    return [[f"{100 * q:g} % at most", f"{exact:.4g}", f"{variant:.4g}"] for q, exact, variant in found]


def flip_rows(decided: Decided, labels: Sequence[str]) -> list[list[object]]:
    """A row per sample that changed its class, of those that a manifest lists."""

    def name(index: int) -> object:
        return labels[index] if 0 <= index < len(labels) else index

    return [
        [f.sample, name(f.exact_class), f"{f.exact_margin:.3g}", name(f.variant_class), f"{f.variant_margin:.3g}"]
        for f in decided.flips
    ]


def angle_rows(angles: ClassAngles) -> list[list[object]]:
    """Where the classes' directions are, and how far each has turned."""

    def degrees(angle: float | None) -> str:
        return "-" if angle is None else f"{angle:.3f}"

    rows: list[list[object]] = [
        ["nearest two classes", degrees(angles.nearest_exact), degrees(angles.nearest_variant)],
        ["two classes, mean", degrees(angles.apart_exact), degrees(angles.apart_variant)],
        ["turned, mean", "-", degrees(angles.turned_mean)],
        ["turned, most", "-", degrees(angles.turned_most)],
    ]
    return [row for row in rows if row[1:] != ["-", "-"]]


def place_rows(found: Geometry) -> list[list[object]]:
    """An angle that grows leads to other classes, a length that shrinks costs confidence."""
    return [
        ["degrees to its direction", f"{found.angle_exact:.3f}", f"{found.angle_variant:.3f}"],
        ["length", "1", f"{found.length:.4g}"],
        ["distance to the next class", f"{found.distance_exact:.4g}", f"{found.distance_variant:.4g}"],
    ]
