"""A board's own half of its TLS identity: a key that never leaves it, and the request that its hub signs."""

from __future__ import annotations

from pathlib import Path

from console.errors import StorageError
from wire.files import write_atomic


def new_request(name: str, folder: Path) -> tuple[Path, Path]:
    """Make NAME.tls.key (ECDSA P-256, PKCS#8 PEM, mode 0600) and NAME.csr (PKCS#10 PEM); a key is never replaced.

    Raises:
        StorageError: a key of that name exists, or the folder cannot be written.
    """
    from cryptography import x509  # boards need it once in their life
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key_path, request_path = folder / f"{name}.tls.key", folder / f"{name}.csr"
    if key_path.exists():
        raise StorageError(
            f"expected no file at {key_path}, found one; a key is never overwritten: move it away or choose another "
            f"name"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomic(key_path, pem, mode=0o600)
    write_atomic(request_path, request.public_bytes(serialization.Encoding.PEM))
    return key_path, request_path
