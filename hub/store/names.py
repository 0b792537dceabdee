"""What people call a version."""

from __future__ import annotations

from console.errors import HubError
from hub.store.registry import Home


def version_digest(home: Home, model: str, wanted: str) -> str:
    """The digest of a version of a model that is named by number, `tip` or `released`.

    Raises:
        HubError: there is none of that name.
    """
    release = home.ledger.release(model)
    names: dict[str, str] = {str(row["number"]): row["digest"] for row in home.ledger.versions(model)}
    names["tip"] = home.ledger.tip(model)
    if release is not None:
        names["released"] = release["digest"]
    if wanted not in names:
        raise HubError(f"expected a version among {', '.join(names)}, found {wanted!r}")
    return names[wanted]
