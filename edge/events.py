"""The words of the agent's protocol: what happens to an agent (events), and what it then does (actions)."""

from __future__ import annotations

from dataclasses import dataclass

from wire.messages import (
    Assignment,
    HubKeys,
    Job,
    MaskOpen,
    MaskRoster,
    MaskSealed,
    MaskSurvivors,
    Program,
    Release,
    Standing,
)

Blobs = frozenset[str]

# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True)
class Connected:
    """The broker is there (again)."""


@dataclass(frozen=True)
class Lost:
    """The broker is gone."""


@dataclass(frozen=True)
class JobCame:
    """The hub asks for a job, perhaps not for the first time."""

    job: Job


@dataclass(frozen=True)
class Cancelled:
    """The hub no longer waits for a job."""

    job: str


@dataclass(frozen=True)
class Looked:
    """What the current job lacks; nothing means that it can begin."""

    job: str
    lacking: Blobs


@dataclass(frozen=True)
class ReleaseCame:
    """A release newer than any seen."""

    release: Release


@dataclass(frozen=True)
class BundleNamed:
    """The hub names the bundle to run; none of the protocol's, since beginning anew ends whatever goes on."""

    message: Assignment


@dataclass(frozen=True)
class ProgramNamed:
    """The hub names the release of the agent to be; the protocol knows as little of it."""

    message: Program


@dataclass(frozen=True)
class KeysCame:
    """The hub says its keys; whom to believe is no part of the protocol."""

    message: HubKeys


@dataclass(frozen=True)
class StandingCame:
    """The hub answers a hello; what that shows is no part of the protocol."""

    message: Standing


@dataclass(frozen=True)
class ReleaseLooked:
    """What that release lacks."""

    digest: str
    lacking: Blobs


@dataclass(frozen=True)
class Stored:
    """A version or blob is here, whole."""

    digest: str


@dataclass(frozen=True)
class Computed:
    """The worker is done and the update is on disk; it answers `of`, where that is another job than what was done."""

    job: str
    update: str
    of: str = ""


@dataclass(frozen=True)
class Helped:
    """A tail is done that learned nothing: what its board asked for went to the board."""

    job: str


@dataclass(frozen=True)
class Kept:
    """The worker is done, and what it made stays here for a sum under masks."""

    job: str


@dataclass(frozen=True)
class MaskCame:
    """The hub goes on with a sum under masks, perhaps not for the first time."""

    message: MaskRoster | MaskSealed | MaskSurvivors | MaskOpen


@dataclass(frozen=True)
class Crashed:
    """The job cannot be done; `peer`: since the device that has its other half could not."""

    job: str
    reason: str
    peer: str = ""


@dataclass(frozen=True)
class Wanted:
    """The hub lacks chunks of an update, or even its beginning."""

    update: str
    indexes: tuple[int, ...]
    begin: bool


@dataclass(frozen=True)
class Receipted:
    """The hub has journalled an update, or never will."""

    update: str
    status: str
    reason: str


@dataclass(frozen=True)
class StillWaits:
    """A receipt could not be kept: the update waits as before."""

    update: str
    job: str


@dataclass(frozen=True)
class Due:
    """Time to ask again: for an update's receipt, or, with an empty name, for what is lacking."""

    update: str = ""


# ----------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class SayHello:
    """Say what this agent runs and holds."""


@dataclass(frozen=True)
class Look:
    """Find out what the current job lacks."""

    job: Job


@dataclass(frozen=True)
class LookRelease:
    """Find out what the release lacks."""

    release: Release


@dataclass(frozen=True)
class Ask:
    """Fetch these versions or blobs."""

    digests: Blobs


@dataclass(frozen=True)
class Compute:
    """Give the job to the worker."""

    job: Job


@dataclass(frozen=True)
class Unseat:
    """Serve that tail no longer."""

    job: str


@dataclass(frozen=True)
class StopWorker:
    """Take it away from the worker."""


@dataclass(frozen=True)
class Send:
    """Send Begin (perhaps), chunks (None: all) and Commit of an update."""

    update: str
    begin: bool = True
    indexes: tuple[int, ...] | None = ()


@dataclass(frozen=True)
class SayKeys:
    """Tell the hub that a job is done, with the keys of its sum under masks."""

    job: str


@dataclass(frozen=True)
class MaskAnswer:
    """Do what the hub asks for a sum under masks, or refuse it."""

    message: MaskRoster | MaskSealed | MaskSurvivors | MaskOpen


@dataclass(frozen=True)
class ForgetMasks:
    """Delete what is kept of a sum under masks."""

    job: str


@dataclass(frozen=True)
class SayFailed:
    """Tell the hub why there will be no update, and whether it was for the other half of the job."""

    job: str
    reason: str
    peer: str = ""


@dataclass(frozen=True)
class Forget:
    """Log the receipt and drop the update."""

    update: str
    status: str
    reason: str


@dataclass(frozen=True)
class Serve:
    """The release is complete: serve it."""

    release: Release
