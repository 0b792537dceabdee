"""`edgequilt hub version | deploy | promote | rollback | deployment`: versions, and who serves which."""

from __future__ import annotations

import argparse
from typing import Any

from console.arguments import whole
from console.errors import HubError, UsageError
from hub.show import versions as show_versions
from hub.verbs.common import Row, add_verb, ask, say
from hub.verbs.waiting import wait


def parse(verbs: Any) -> None:
    """Their options."""
    parser = verbs.add_parser("version", help="look at versions")
    noun = parser.add_subparsers(dest="version_verb", required=True)
    add_verb(noun, "list", _version_list, "all versions")
    shown = add_verb(noun, "show", _version_show, "everything about a version")
    shown.add_argument("version", help="a number, tip or released")
    _parse_deploy(verbs)
    add_verb(verbs, "promote", _promote, "release the version on trial to all")
    back = add_verb(verbs, "rollback", _rollback, "end the trial, or take all devices back to an earlier version")
    back.add_argument(
        "version", nargs="?", help="its number (default: the trial; with none open, what was in use before)"
    )
    parser = verbs.add_parser("deployment", help="look at deployments")
    noun = parser.add_subparsers(dest="deployment_verb", required=True)
    add_verb(noun, "list", _deployment_list, "all deployments")
    shown = add_verb(noun, "show", _deployment_show, "everything about a deployment")
    shown.add_argument("number", type=whole(1))


def _parse_deploy(verbs: Any) -> None:
    deploy = add_verb(verbs, "deploy", _deploy, "release a version to all devices, or to a group on trial")
    deploy.add_argument("version", help="a number or tip")
    deploy.add_argument("--group", help="only these: a group, or names of devices with commas; they judge it")
    deploy.add_argument("--promote", choices=("auto", "manual"), help="after a good trial (default: auto)")
    deploy.add_argument("--against", help="compare with this version (default: released)")
    deploy.add_argument("--wait", action="store_true", help="until the trial is over or waits for a decision")


def _version_list(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "versions"})
    return say(options, found, show_versions.versions_text(found["versions"]))


def _version_show(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "version", "version": options.version})
    return say(options, found, show_versions.version_text(found))


def _deploy(options: argparse.Namespace) -> int:
    trial = {"promote": options.promote, "against": options.against}
    if not options.group:
        if any(trial.values()) or options.wait:
            raise UsageError(
                "expected --group with --promote, --against or --wait; without it all devices get the version"
            )
        found = ask(options, {"request": "deploy", "version": options.version})
        return say(options, found, show_versions.version_text(found))
    found = ask(options, {"request": "deploy", "version": options.version, "group": options.group, **trial})
    if options.wait:
        found = _wait(options, found)
    say(options, found, show_versions.deployment_text(found))
    if options.wait and found["state"] in ("rolled back", "superseded"):
        raise HubError(
            f"expected version {found['version']} to pass its trial, it was {found['state']}: {found['sentence']}"
        )
    return 0


def _wait(options: argparse.Namespace, found: Row) -> Row:
    number, total = found["deployment"], found["devices"]
    request = {"request": "deployment", "deployment": number}
    return wait(options, found, request, f"deployment {number}", total, "serving", _needs_nobody)


def _needs_nobody(found: Row) -> bool:
    """Whether a trial is over, or waits for a person."""
    return not found["open"] or found["state"] == "waiting"


def _promote(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "promote"})
    return say(options, found, show_versions.deployment_text(found))


def _rollback(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "rollback", "version": options.version})
    text = show_versions.deployment_text if "deployment" in found else show_versions.version_text
    return say(options, found, text(found))


def _deployment_list(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "deployments"})
    return say(options, found, show_versions.deployments_text(found["deployments"]))


def _deployment_show(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "deployment", "deployment": options.number})
    return say(options, found, show_versions.deployment_text(found))
