"""Real SuperNodes, a process each, as users start them: `python supernodes.py ADDRESS CA COUNT ...`, to be ended.

Says `ready` once all are registered and have been started for a while; each starts a process for every message.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes

SETTLE_S = 8.0


def main(address: str, ca: str, number: str, *_: str) -> None:
    """Register, start, wait."""
    versioned = [RuntimeVersionHttpInterceptor(component_name="flwr-cli")]
    control = ControlHttpClient.from_server_address(address, False, Path(ca).read_bytes(), versioned)
    started, program = [], str(Path(sys.executable).parent / "flower-supernode")
    kind = serialization.PrivateFormat.OpenSSH
    for index in range(int(number)):
        private, public = generate_key_pairs()
        control.RegisterNode(RegisterNodeRequest(public_key=public_key_to_bytes(public)))
        path = Path(f"node-{index}.key")
        path.touch(mode=0o600)
        path.write_bytes(private.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
        place = ["--superlink", address, "--root-certificates", ca, "--auth-supernode-private-key", str(path)]
        started.append(
            subprocess.Popen([program, *place, "--host", "127.0.0.1", "--port", str(_free())], stdout=sys.stderr)
        )
    control.close()
    time.sleep(SETTLE_S)
    if any(one.poll() is not None for one in started):
        sys.exit("a SuperNode ended by itself")
    print("ready", flush=True)
    for one in started:
        one.wait()


def _free() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
