"""Ed25519 keys (RFC 8032) with one role each, as files.

A private key is PKCS#8 PEM, readable by its owner only. A public key is one line of text:
`edgequilt-ROLE ed25519 BASE64 NAME`. The key id is the first 16 hexadecimal digits of the SHA-256 of the raw key.

By libsodium: it takes 2.2 MiB of the 35 that the core of an agent may have, where cryptography takes 7.4, since that
brings an OpenSSL beside the one of Python's TLS.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

import nacl.bindings as sodium
from nacl.exceptions import BadSignatureError

from console.errors import SignatureError, StorageError, UsageError
from wire.files import read_bytes, write_atomic

Role = Literal["publisher", "hub", "device"]
ROLES: tuple[str, ...] = get_args(Role)
KEY_FILE_LIMIT_BYTES = 4096
SIGNATURE_BYTES, SEED_BYTES = 64, 32
# PKCS#8 of an Ed25519 key is these bytes and the seed (RFC 8410, section 7)
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
_BEGIN, _END = (f"-----{word} PRIVATE KEY-----" for word in ("BEGIN", "END"))


@dataclass(frozen=True)
class PublicKey:
    """Whom to believe, and about what."""

    role: str
    raw: bytes
    name: str

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def line(self) -> str:
        """The one line of its file."""
        return f"edgequilt-{self.role} ed25519 {base64.b64encode(self.raw).decode()} {self.name}"


class Signer(Protocol):
    """What signs: a private key, or something that asks a hardware module which has one."""

    def sign(self, data: bytes) -> bytes:
        """64 bytes of Ed25519 signature."""


@dataclass(frozen=True)
class Seed:
    """A private key in memory, whose 32 bytes are in a file (RFC 8032, section 5.1.5)."""

    raw: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """The 32 bytes that everybody may know."""
        return bytes(sodium.crypto_sign_seed_keypair(self.raw)[0])

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return bytes(sodium.crypto_sign(data, sodium.crypto_sign_seed_keypair(self.raw)[1])[:SIGNATURE_BYTES])


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs; its secret never appears in a repr."""

    public: PublicKey
    _secret: Signer

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.role} {self.public.name} {self.public.id})"

    def sign_raw(self, data: bytes) -> bytes:
        """64 bytes of Ed25519 signature over exactly these bytes."""
        return self._secret.sign(data)


def new_key(role: str, name: str) -> PrivateKey:
    """Make a key for a role.

    Raises:
        UsageError: the role is not one of ours, or the name has blanks or is no Unicode text.
    """
    if role not in ROLES:
        raise UsageError(f"expected a role among {', '.join(ROLES)}, found {role!r}")
    if not name or not name.isprintable() or name != "".join(name.split()):
        raise UsageError(f"expected a key name that can be printed, without blanks, found {name!r}")
    return _private(Seed(secrets.token_bytes(SEED_BYTES)), role, name)


def write_key(key: PrivateKey, folder: Path) -> tuple[Path, Path]:
    """Write `NAME.key` (mode 0600) and `NAME.pub`; refuse to replace a key that is there.

    Raises:
        StorageError: a file of that name exists, or the folder cannot be written.
        UsageError: the key is in a hardware module.
    """
    secret = key._secret  # noqa: SLF001  # this module owns the secret
    if not isinstance(secret, Seed):
        raise UsageError("expected a key that can be written to a file, found one in a hardware module")
    secret_path, public_path = folder / f"{key.public.name}.key", folder / f"{key.public.name}.pub"
    for path in (secret_path, public_path):
        if path.exists():
            raise StorageError(
                f"expected no file at {path}, found one; a key is never overwritten: move it away or "
                f"choose another name"
            )
    pem = base64.b64encode(_PKCS8 + secret.raw).decode()
    text = f"edgequilt-{key.public.role} {key.public.name}\n{_BEGIN}\n{pem}\n{_END}\n"
    write_atomic(secret_path, text.encode(), mode=0o600)
    try:
        write_atomic(public_path, key.public.line.encode() + b"\n")
    except BaseException:
        secret_path.unlink()  # half a pair would be in the way of the next attempt
        raise
    return secret_path, public_path


def read_private_key(path: Path) -> PrivateKey:
    """Read a private key file.

    Raises:
        StorageError: it cannot be read.
        SignatureError: it is not a key of ours.
    """
    head, _, pem = read_bytes(path, "a private key", KEY_FILE_LIMIT_BYTES).partition(b"\n")
    try:
        label, name = head.decode().split(" ")
        secret = _secret_of(pem.decode())
        if label.removeprefix("edgequilt-") not in ROLES:
            raise ValueError(label)
    except ValueError as error:
        raise SignatureError(
            f"expected an edgequilt private key in {path}, found something else; make one with `edgequilt key new`"
        ) from error
    return _private(secret, label.removeprefix("edgequilt-"), name)


def read_public_key(path: Path, role: str) -> PublicKey:
    """Read a public key file that must have the given role.

    Raises:
        StorageError: it cannot be read.
        SignatureError: it is not a public key, or its role is another.
    """
    return parse_public_key(
        read_bytes(path, "a public key", KEY_FILE_LIMIT_BYTES).decode(errors="replace"), role, str(path)
    )


def parse_public_key(line: str, role: str, where: str) -> PublicKey:
    """Read the one line of a public key.

    Raises:
        SignatureError: it is not a public key of that role.
    """
    try:
        label, algorithm, encoded, name = line.split()
        raw = base64.b64decode(encoded, validate=True)
        found = label.removeprefix("edgequilt-")
        if algorithm != "ed25519" or len(raw) != 32 or found not in ROLES or "PRIVATE" in line:
            raise ValueError
    except (ValueError, binascii.Error) as error:
        raise SignatureError(
            f"expected the public key of a {role} in {where}, found something else; take the .pub file "
            f"that `edgequilt key new` wrote"
        ) from error
    if found != role:
        raise SignatureError(
            f"expected the public key of a {role} in {where}, found one of a {found}; take the other .pub file"
        )
    return PublicKey(found, raw, name)


def verify_raw(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether this key made this signature over exactly these bytes."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        sodium.crypto_sign_open(signature + data, key.raw)
    except (BadSignatureError, ValueError):
        return False
    return True


def _private(secret: Seed, role: str, name: str) -> PrivateKey:
    return PrivateKey(PublicKey(role, secret.public, name), secret)


def _secret_of(pem: str) -> Seed:
    """The key in a PEM block without a password; ValueError if it is none."""
    first, *middle, last = pem.split("\n")[:-1] if pem.endswith("\n") else pem.split("\n")
    if (first, last) != (_BEGIN, _END):
        raise ValueError("no private key")
    der = base64.b64decode("".join(middle), validate=True)
    if not der.startswith(_PKCS8) or len(der) != len(_PKCS8) + SEED_BYTES:
        raise ValueError("not an Ed25519 key")
    return Seed(der[len(_PKCS8) :])
