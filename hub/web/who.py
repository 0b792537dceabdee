"""Who may ask what demands an identity: devices that are enrolled and not revoked, by their certificate's name."""

from __future__ import annotations

from hub.web.routes import Refusal, Within


def admit(within: Within, device: str) -> None:
    """Let a device in.

    Raises:
        Refusal: it is not enrolled, or revoked.
    """
    row = within(lambda service: service.home.ledger.device(device))
    if row is None or row["revoked"]:
        raise Refusal(403, "expected a device that is enrolled and not revoked, found another; ask who runs the fleet")
