"""Public SSH keys as lines of an authorized_keys file (sshd(8)): what a key holds is compared with what it says.

A key is base64 of strings with their lengths before them (RFC 4251, section 5), of which the first is its type
(RFC 4253, section 6.6). A line that was cut off, or glued together from two, looks like a key and lets nobody in.
"""

from __future__ import annotations

import base64
import binascii

LENGTH = 4
MOST_BYTES = 4096  # of one key; RSA with 16384 bits has half of that
_POINTS = {"nistp256": 65, "nistp384": 97, "nistp521": 133}  # uncompressed, RFC 5656 section 3.1
_CERTAIN = 32  # bytes of an Ed25519 key, RFC 8709 section 4


def ssh_key_problem(line: str) -> str:
    """What is wrong with a line `TYPE BASE64 [COMMENT]`; empty: nothing.

    >>> ssh_key_problem("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBEKsAmuHWYvFxZ1PTMRyGm5lcJ1WCBYdVYyb0ZsW8Zd me")
    ''
    >>> ssh_key_problem("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIBEKsAmuHWYvFxZ1PTMRyGm5lcJ1WCBYdVYyb0ZsW8Zd")
    'a key of type ssh-ed25519 behind the word ssh-rsa'
    """
    if not line.isprintable():
        return "characters that cannot be printed"
    words = line.split(" ", 2)
    if len(words) < 2 or not _known(words[0]):
        return "no type of key and base64 at its beginning"
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return "no base64 behind its type"
    parts = _parts(blob)
    if parts is None:
        return "a key that was cut off, or more than one"
    kind = parts[0].decode("ascii", "replace")
    if kind != words[0]:
        return (
            f"a key of type {kind if kind.isprintable() and len(kind) < 64 else 'unknown'} behind the word {words[0]}"
        )
    return "" if _holds(kind, parts[1:]) else f"no key of type {kind}"


def _known(kind: str) -> bool:
    return kind in ("ssh-ed25519", "ssh-rsa", "sk-ssh-ed25519@openssh.com") or _curve(kind) != ""


def _curve(kind: str) -> str:
    """Of ecdsa-sha2-CURVE and sk-ecdsa-sha2-nistp256@openssh.com."""
    if kind == "sk-ecdsa-sha2-nistp256@openssh.com":
        return "nistp256"
    curve = kind.removeprefix("ecdsa-sha2-")
    return curve if curve != kind and curve in _POINTS else ""


def _parts(blob: bytes) -> list[bytes] | None:
    """The strings of a key; None where their lengths do not add up to it."""
    if len(blob) > MOST_BYTES:
        return None
    found, at = list[bytes](), 0
    while at < len(blob):
        size = int.from_bytes(blob[at : at + LENGTH], "big")
        at += LENGTH
        if at + size > len(blob):
            return None
        found.append(blob[at : at + size])
        at += size
    return found or None


def _holds(kind: str, parts: list[bytes]) -> bool:
    """Whether there are as many parts as a key of this type has, and each of a length that it can have."""
    if kind.startswith("sk-"):  # its last part is the application, `ssh:`
        if not parts or not parts[-1]:
            return False
        parts = parts[:-1]
    if kind == "ssh-rsa":
        return len(parts) == 2 and len(parts[1].lstrip(b"\0")) >= 128 and bool(parts[0].lstrip(b"\0"))
    if curve := _curve(kind):
        return len(parts) == 2 and parts[0] == curve.encode() and len(parts[1]) == _POINTS[curve] and parts[1][0] == 4
    return len(parts) == 1 and len(parts[0]) == _CERTAIN
