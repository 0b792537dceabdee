"""Where things are on a board. Flashing and installing put them there; the agent and its launcher find them there.

Everything that changes is below one folder, which systemd gives to the agent's own user (`DynamicUser=`,
`StateDirectory=`). The launcher is outside of it and belongs to root: a broken release cannot break what undoes it.
"""

from __future__ import annotations

HOME = "/var/lib/edgequilt"  # agent.toml, keys, state, releases
CONFIG = f"{HOME}/agent.toml"
CLAIM = f"{HOME}/claim-token"  # until it is used
STATE = f"{HOME}/state"
DATA = f"{HOME}/data"  # samples to learn from; new ones are noticed
BUNDLE = f"{HOME}/bundle"  # one that came with the card
RELEASES = f"{HOME}/releases"  # of the agent itself: one folder for each version
CURRENT = f"{HOME}/current"  # a link: the release that starts
TRIAL = f"{HOME}/trial.json"  # of a release that is new here: the launcher counts its starts, and may go back
LIBRARIES = "lib"  # in a release: what goes into PYTHONPATH
RELEASE_FILE = "release.json"  # in a release: what it is
SUMS_FILE = "files.sha256"  # in a release: the digest of every file of lib/
LAUNCHER = "/usr/lib/edgequilt/launch.py"
COMMAND = "/usr/local/bin/edgequilt"
UNIT = "edgequilt-agent.service"
UNITS = "/etc/systemd/system"
RUNTIME = "/run/edgequilt"
SOCKET = f"{RUNTIME}/agent.sock"  # of the local API
