"""A board's own half of its TLS identity: its key, the request that its hub signs, whom it believes."""

from __future__ import annotations

import ssl
from pathlib import Path

from console.errors import StorageError
from wire.clock import plausible
from wire.files import write_atomic

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python's ssl does not name


def client_context(ca: Path | str | None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """How a client meets a server: TLS 1.2 at least, the server's name and authority are checked.

    While this machine's clock cannot be right, dates of certificates are not looked at: all else is, and a board that
    woke in 1970 would otherwise believe nobody.

    Args:
        ca: the authorities to believe, a file or PEM text; None: those of the system.
        certificate: of the client, PEM.
        key: of the client, PEM; None: in the file of the certificate.

    Raises:
        OSError, ssl.SSLError: a file cannot be used.
    """
    given = {"cadata": ca} if isinstance(ca, str) else {"cafile": None if ca is None else str(ca)}
    context = ssl.create_default_context(**given)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None and not plausible():
        context.verify_flags |= NO_CHECK_TIME
    if certificate is not None:
        context.load_cert_chain(str(certificate), None if key is None else str(key))
    return context


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
