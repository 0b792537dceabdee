"""A board's own half of its TLS identity: its key, the request that its hub signs, whom it believes."""

from __future__ import annotations

import ssl
from pathlib import Path

from console.errors import SignatureError, StorageError
from wire.clock import plausible
from wire.files import read_bytes, write_atomic

KEY_LIMIT_BYTES = 16384
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if ca is not None else ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    look_again(context, ca, certificate, key)
    return context


def look_again(
    context: ssl.SSLContext, ca: Path | str | None, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Have connections to come use what the files hold now, and look at dates if the clock can be right by now.

    Args:
        context: of `client_context`.
        ca: as there; authorities that were believed before still are.
        certificate: as there.
        key: as there.

    Raises:
        OSError, ssl.SSLError: a file cannot be used.
    """
    if isinstance(ca, str):
        context.load_verify_locations(cadata=ca)
    elif ca is not None:
        context.load_verify_locations(cafile=str(ca))
    if ca is not None:
        flags = int(context.verify_flags) & ~NO_CHECK_TIME
        context.verify_flags = ssl.VerifyFlags(flags if plausible() else flags | NO_CHECK_TIME)
    if certificate is not None:
        context.load_cert_chain(str(certificate), None if key is None else str(key))


def new_request(name: str, folder: Path) -> tuple[Path, Path]:
    """Make NAME.tls.key (ECDSA P-256, PKCS#8 PEM, mode 0600) and NAME.csr (PKCS#10 PEM); a key is never replaced.

    Raises:
        StorageError: a key of that name exists, or the folder cannot be written.
    """
    key_path, request_path = folder / f"{name}.tls.key", folder / f"{name}.csr"
    if key_path.exists():
        raise StorageError(
            f"expected no file at {key_path}, found one; a key is never overwritten: move it away or choose another "
            f"name"
        )
    write_atomic(request_path, request_for(name, key_path))
    return key_path, request_path


def request_for(name: str, key_path: Path) -> bytes:
    """A signing request (PKCS#10 PEM) for the key in a file; the key is made and kept first where there is none.

    Raises:
        StorageError: the file cannot be read or written.
        SignatureError: it holds no key of an elliptic curve.
    """
    from cryptography import x509  # boards need it once in a long while
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    if not key_path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_atomic(key_path, made.private_bytes(*form), mode=0o600)
    try:
        key = serialization.load_pem_private_key(read_bytes(key_path, "a TLS key", KEY_LIMIT_BYTES), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(key_path)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"expected a TLS key in {key_path}, found something else; move it away") from error
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made_request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made_request.public_bytes(serialization.Encoding.PEM)


def listening_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """How a device meets others that connect to it: TLS 1.3, and only with a certificate of these authorities.

    Raises:
        OSError, ssl.SSLError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # each connection shows its certificate
    look_again(context, ca, certificate, key)
    return context


def connecting_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """How a device connects to another one, which proves by its signing key whose connection it is (edge.split.direct).

    A device's certificate is good for clients alone, so that no device can be a broker; TLS would not take it here.

    Raises:
        OSError, ssl.SSLError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(str(certificate), str(key))
    return context
