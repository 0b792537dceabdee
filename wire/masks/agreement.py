"""Secrets of two boards that a hub relays but does not know: X25519 (RFC 7748), HKDF (RFC 5869), ChaCha20-Poly1305.

The key agreement and the authenticated encryption of Bonawitz et al. (wire.masks.device); every key is used once.
"""

from __future__ import annotations

from console.errors import BadData

KEY_BYTES = 32
_NONCE_BYTES = 12


def public_of(secret: bytes) -> bytes:
    """The public key of 32 random bytes."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret: bytes, public: bytes, purpose: str) -> bytes:
    """32 bytes that both sides come to, others for every purpose.

    Raises:
        BadData: it is no public key, or one that gives the same secret to everybody.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    try:
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise BadData(f"expected an X25519 public key, found bytes that are none ({error})") from error
    return HKDF(SHA256(), KEY_BYTES, None, f"edgequilt/1/{purpose}".encode()).derive(shared)


def encrypt(key: bytes, plain: bytes, about: str) -> bytes:
    """Bytes that only who has the key can read, and only as being about the same."""
    from secrets import token_bytes

    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce = token_bytes(_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, about.encode())


def decrypt(key: bytes, sealed: bytes, about: str) -> bytes:
    """The same, read.

    Raises:
        BadData: another key, another purpose, or bytes that were changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, rest, about.encode())
    except (InvalidTag, ValueError) as error:
        raise BadData(f"expected {about}, found bytes that its key does not open") from error
