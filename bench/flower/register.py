"""A key that a SuperLink takes for a SuperNode: `python register.py ADDRESS CA KEY`, in Flower's environment."""

from __future__ import annotations

import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes


def main(address: str, ca: str, key: str) -> None:
    """Make it and register it."""
    versioned = [RuntimeVersionHttpInterceptor(component_name="flwr-cli")]
    control = ControlHttpClient.from_server_address(address, False, Path(ca).read_bytes(), versioned)
    private, public = generate_key_pairs()
    control.RegisterNode(RegisterNodeRequest(public_key=public_key_to_bytes(public)))
    control.close()
    path = Path(key)
    path.touch(mode=0o600)
    kind = serialization.PrivateFormat.OpenSSH
    path.write_bytes(private.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))


if __name__ == "__main__":
    main(*sys.argv[1:])
