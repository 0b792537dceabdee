"""`edgequilt agent prove`: a release shows that it runs here; the one before asks it to, and so may a person."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path

from console.errors import EdgequiltError, VerificationError
from edge.config import Config, read_config
from edge.request import PROVE, Request
from edge.setup import place_of
from edge.shelf import Shelf
from edge.worker import end_with_parent, leave_no_image
from wire.bundle import Bundle, open_bundle
from wire.envelope import Trust
from wire.keys import read_public_key

ROOMS = ("console", "wire", "edge")


def prove(config_path: Path) -> float | None:
    """Import everything, and run the golden input of the bundle in use; the difference, None without a bundle.

    It takes no lock and writes nothing: the agent that runs has the state folder.

    Raises:
        VerificationError: something cannot be imported, or computes something else.
        EdgequiltError: the configuration or the bundle is not what it should be.
    """
    end_with_parent()
    leave_no_image()
    import_all()
    config = read_config(config_path)
    bundle = _bundle(config)
    if bundle is None:
        return None
    from edge.jobs import Desk, perform

    place = replace(place_of(config, bundle.folder, bundle.sha256), cache="")
    desk = Desk()
    try:
        return float(perform(desk, Request(PROVE, PROVE, 0, (), (), place, "")).metrics["difference"])
    finally:
        desk.close()


def import_all() -> None:
    """Import what an agent is made of.

    Raises:
        VerificationError: something cannot be.
    """
    for room in ROOMS:
        for found in pkgutil.walk_packages(importlib.import_module(room).__path__, f"{room}."):
            try:
                importlib.import_module(found.name)
            except Exception as error:  # noqa: PERF203  # the first is enough
                raise VerificationError(
                    f"expected {found.name} to be imported, found {type(error).__name__}: {str(error)[:200]}; this "
                    f"release cannot run here"
                ) from error


def _bundle(config: Config) -> Bundle | None:
    """As `edge.setup.bundle_in_use` finds it, without mending anything."""
    trust = Trust(read_public_key(path, "publisher") for path in config.publisher_keys)
    shelf, problem = Shelf(config.state), None
    for digest in filter(None, (shelf.kept.current, shelf.kept.former)):
        try:
            return open_bundle(shelf.folder(digest), trust)
        except EdgequiltError as error:  # noqa: PERF203  # of two
            problem = error
    if config.bundle is not None:
        return open_bundle(config.bundle, trust)
    if problem is not None:
        raise problem
    return None
