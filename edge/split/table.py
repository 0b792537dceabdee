"""The table `[split]` of agent.toml: where a tail lets boards connect to it (docs/split.md)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from console.errors import UsageError
from wire.record import at_least

SEATS = 4


@dataclass(frozen=True)
class SplitTable:
    """As it is written.

    Attributes:
        listen: HOST:PORT of this machine; empty: boards speak through the broker.
        address: HOST:PORT as boards reach it, where that is another.
        seats: boards that are served at a time, each by a worker process.
    """

    listen: str = ""
    address: str = ""
    seats: int = field(default=SEATS, metadata=at_least(1, 256))


@dataclass(frozen=True)
class Door:
    """Where boards connect, and by which files each side is known; the files may change while the agent runs."""

    host: str
    port: int
    address: str
    ca: Path
    certificate: Path
    key: Path


def door(
    table: SplitTable | None, files: tuple[str | None, str | None, str | None], problems: list[str]
) -> Door | None:
    """What a table means; None: nothing listens.

    Args:
        table: of agent.toml.
        files: ca, certificate and key of the table `[broker]`.
        problems: what is wrong is added.
    """
    if table is None or not (table.listen or table.address):
        return None
    here, told = (
        _parsed(text, name, problems) for text, name in ((table.listen, "listen"), (table.address, "address"))
    )
    ca, certificate, key = files
    if ca is None or certificate is None or key is None:
        problems.append(
            "split.listen: expected broker.ca, broker.certificate and broker.key, by which boards are known"
        )
        return None
    if here is None:
        return None
    if told is None and _everywhere(here[0]):
        problems.append(f"split.address: expected HOST:PORT as boards reach this agent, since it listens on {here[0]}")
        return None
    return Door(here[0], here[1], table.address or table.listen, Path(ca), Path(certificate), Path(key))


def _parsed(text: str, name: str, problems: list[str]) -> tuple[str, int] | None:
    from wire.https import parse_address

    if not text:
        if name == "listen":
            problems.append("split.listen: expected HOST:PORT, found nothing")
        return None
    try:
        return parse_address(text)
    except UsageError as error:
        problems.append(f"split.{name}: {error}")
        return None


def _everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
