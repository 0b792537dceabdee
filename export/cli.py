"""`edgequilt export | verify`: make bundles, check them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console.arguments import Arguments
from console.errors import UsageError
from console.progress import progress
from console.table import table
from devices.fleet import known_boards
from devices.split.fleet_plan import read_fleet_plan
from export.arguments import check_calibration, fleet, parser
from export.arguments_plan import grid, keeping, sizes, states
from export.arguments_split import check_split
from export.labels import read_labels
from export.planned import as_planned, fleet_of
from export.stoppable import stoppable
from export.summary import closing, summaries
from wire.bundle import open_bundle
from wire.envelope import Trust
from wire.keys import PrivateKey, new_key, read_private_key, read_public_key, write_key


def export(argv: list[str]) -> int:
    """`edgequilt export MODEL --device NAME ... --task T --labels FILE --out DIR`; returns the exit code."""
    options = parser().parse_args(argv)
    if options.context is not None and options.context < 1:
        raise UsageError(f"expected a --context of at least 1 token, found {options.context}")
    plan = None if options.plan is None else read_fleet_plan(options.plan)
    if plan is not None:
        as_planned(options, plan)
    labels = read_labels(options.labels, options.data) if options.labels or options.data else ()
    chosen = fleet(options, labels=bool(labels)) if plan is None else fleet_of(plan, options.profiles)
    dimensions, carried = sizes(options), states(options)
    check_calibration(options, chosen)
    check_split(options, chosen)
    # everything above is checked before torch is loaded
    from export.activations.given import read_calibration
    from export.pipeline import ExportRequest, export_model, steps_of
    from export.sample import read_sample
    from export.write import storing

    calibration = read_calibration(options.calibration, options.calibration_method)
    sample = {} if options.sample is None else read_sample(options.sample)

    with stoppable(), storing(options.out), _signer(options.key, options.out, quiet=options.json) as key:
        request = ExportRequest(
            source=options.model,
            task=options.task or "",
            labels=labels,
            boards=chosen.boards,
            chains=chosen.chains,
            splits=chosen.splits,
            plan=plan,
            key=key,
            out=options.out,
            sequence=options.sequence[0],
            shorter=options.sequence[1:],
            micro_batches=options.micro_batches,
            targets=options.adapter_targets,
            kinds=tuple(kind.strip() for kind in options.adapter_kinds.split(",")),
            serve_graph=options.serve_graph,
            scale_inputs=options.scale_inputs,
            name=options.name,
            sizes=dimensions,
            states=carried,
            sample=sample,
            keep=keeping(options),
            grid=grid(options),
            tables_out=options.tables == "out",
            calibration=calibration,
            known=known_boards(options.profiles),
            strict=options.strict,
            features=options.features,
            features_axis=options.features_axis,
            train_activations=options.train_activations,
        )
        with progress("exporting", steps_of(request), quiet=options.json) as bar:
            made = export_model(request, bar)
    print(json.dumps(summaries(made), indent=1) if options.json else closing(made))
    return 0


@contextmanager
def _signer(path: Path | None, out: Path, *, quiet: bool) -> Iterator[PrivateKey]:
    """The publisher's key; made if none is named and none is there, and taken back if the export fails.

    Raises:
        SignatureError: the file is not a private key.
        UsageError: it is the key of another role.
    """
    kept = path or out / "keys" / "publisher.key"
    if path is not None or kept.exists():
        key = read_private_key(kept)
        if key.public.role != "publisher":
            raise UsageError(f"expected a publisher's key in {kept}, found one of a {key.public.role}; take the other")
        yield key
        return
    key, before = new_key("publisher", "publisher"), out.exists()
    made: tuple[Path, ...] = ()
    try:
        made = write_key(key, out / "keys")
        yield key
    except BaseException:
        for half in made:
            half.unlink(missing_ok=True)
        for folder in (kept.parent, *([] if before else [out])):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
    if not quiet:
        print(f"made a key: {made[0]} signs (keep it secret), boards trust {made[1]}")


def verify(argv: list[str]) -> int:
    """`edgequilt verify BUNDLE --trust publisher.pub`: signature, files, what graphs compute and what they take."""
    p = Arguments(
        prog="edgequilt verify", description="Check a bundle: signature, digests, what it computes and takes."
    )
    p.add_argument("bundle", type=Path)
    p.add_argument("--trust", type=Path, required=True, metavar="publisher.pub", help="the publisher to believe")
    p.add_argument("--no-memory", action="store_true", help="do not measure what graphs take (Linux only)")
    p.add_argument("--json", action="store_true")
    options = p.parse_args(argv)
    trust = Trust([read_public_key(options.trust, "publisher")])
    with progress("checking files", unit="bytes", quiet=options.json) as bar:
        bundle = open_bundle(options.bundle, trust, bar.advance)
    from export.golden import check_golden
    from export.remeasure import HEADER, refuse_misses, remeasure

    errors, taken = check_golden(bundle), []
    if not options.no_memory and sys.platform == "linux":
        graphs = sum(len(segment.graphs) for segment in bundle.manifest.segments)
        with progress("measuring graphs", graphs, quiet=options.json) as bar:
            taken = remeasure(bundle, bar.advance)
    signer = "" if bundle.signer is None else bundle.signer.name
    if options.json:
        found = {"bundle": bundle.sha256, "signer": signer, "relative_error": errors}
        print(json.dumps({**found, "memory": [one.as_json() for one in taken]}, indent=1))
    else:
        worst = max(errors.values())
        print(f"{options.bundle}: signed by {signer}, {len(bundle.manifest.files)} files as listed, ", end="")
        print(f"golden output within {worst:.1g} (bar {bundle.manifest.golden.relative_tolerance:g})")
        if taken:
            print(f"above the runtime, in fresh processes:\n{table(HEADER, [one.row() for one in taken])}")
    refuse_misses(taken)
    return 0
