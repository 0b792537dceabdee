"""The fleet's certificate authority: who may open a TLS connection to the broker, and under which name.

ECDSA P-256 (what every broker and board accepts; Ed25519 client certificates are not). The name is the common name: a
device's, or `HUB` for the hub itself, which no device can be called. Certificates begin years before they are made: a
board without a clock wakes in the past and would otherwise believe nobody.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from console.errors import SignatureError, UsageError
from hub.hardware import AuthorityKey, Place, new_authority_key, place_in
from wire.files import digest, read_bytes, write_atomic

HUB_NAME = "HUB"
BACK_DATED_DAYS = 5 * 365
AUTHORITY_DAYS, SERVER_DAYS, DEVICE_DAYS = 20 * 365, 10 * 365, 365
FILE_LIMIT_BYTES = 16384
SECRET, CERTIFICATE = "ca.key", "ca.pem"  # in the hub's folder


@dataclass(frozen=True)
class Authority:
    """The key that signs certificates, and its own certificate; the key never appears in a repr."""

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Authority({self.fingerprint[:16]})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, hexadecimal: what a board is told before it meets the hub."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> bytes:
        """The certificate, for those who should believe in this fleet."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def create(fleet: str, folder: Path, place: Place | None = None) -> Authority:
    """Make the authority of a fleet: `ca.pem` and `ca.key` (0600); one that is there is kept.

    Args:
        fleet: its name.
        folder: the hub's.
        place: in a hardware module, where the key is to be; `ca.key` then says where it is.

    Raises:
        SignatureError: there is one half of an authority: another one would shut out every board.
        StorageError: the folder cannot be written.
    """
    there = [name for name in (SECRET, CERTIFICATE) if (folder / name).exists()]
    if len(there) == 2:
        return load(folder)
    if there:
        raise SignatureError(
            f"expected {SECRET} and {CERTIFICATE} in {folder}, found {there[0]} alone; restore the other one from a "
            f"backup with keys, or remove it too and give every board a certificate of another authority"
        )
    key = ec.generate_private_key(ec.SECP256R1()) if place is None else new_authority_key(place)
    name = _named(f"edgequilt fleet {fleet}")
    made = _builder(name, name, key.public_key(), AUTHORITY_DAYS)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = made.add_extension(_usage(signs_certificates=True), critical=True)
    authority = Authority(made.sign(key, hashes.SHA256()), key)
    secret = _key_pem(key) if place is None else place.uri.encode() + b"\n"
    write_atomic(folder / SECRET, secret, mode=0o600)
    write_atomic(folder / CERTIFICATE, authority.pem)
    return authority


def load(folder: Path) -> Authority:
    """The authority in a hub's folder.

    Raises:
        StorageError: there is none.
        SignatureError: the files are not what they should be.
    """
    secret = read_bytes(folder / SECRET, "the fleet's authority", FILE_LIMIT_BYTES)
    public = read_bytes(folder / CERTIFICATE, "the fleet's certificate", FILE_LIMIT_BYTES)
    try:
        place = place_in(folder / SECRET)
        key = serialization.load_pem_private_key(secret, None) if place is None else AuthorityKey(place)
        certificate = x509.load_pem_x509_certificate(public)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise ValueError
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise SignatureError(
            f"expected ca.key and ca.pem of one authority in {folder}, found others; restore both from a backup"
        ) from error
    return Authority(certificate, key)


def issue_server(authority: Authority, hosts: list[str], folder: Path, stem: str) -> None:
    """A key and a certificate for a server that is reached by these names and addresses: STEM.pem, STEM.key (0600).

    Raises:
        UsageError: a host is neither a name nor an address.
        StorageError: they cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    made = _issued(authority, _named("broker"), key.public_key(), SERVER_DAYS)
    made = made.add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
    made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    _write(made.sign(authority._key, hashes.SHA256()), key, folder, stem)  # noqa: SLF001  # this module owns the key


def issue_hub(authority: Authority, folder: Path, stem: str) -> None:
    """A key and a certificate with which the hub itself comes to its broker: STEM.pem, STEM.key (0600).

    Raises:
        StorageError: they cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    _write(_client(authority, HUB_NAME, key.public_key(), SERVER_DAYS), key, folder, stem)


def issue_device(authority: Authority, name: str, request: bytes, days: float = DEVICE_DAYS) -> bytes:
    """A device's certificate (PEM) for the key in its signing request (PEM); only the key is taken from the request.

    Raises:
        SignatureError: it is no signing request, or not signed with its own key.
    """
    return _client(authority, name, _key_of(name, request), days).public_bytes(serialization.Encoding.PEM)


def request_digest(name: str, request: bytes) -> str:
    """SHA-256 of the public key in a device's signing request: the same for each request that is made with that key.

    Raises:
        SignatureError: it is no signing request, or not signed with its own key.
    """
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return digest(_key_of(name, request).public_bytes(serialization.Encoding.DER, form))


def trusted(folder: Path) -> bytes:
    """The certificates of all authorities whose certificates are believed (PEM); the first one signs new ones.

    Raises:
        StorageError: there is none.
    """
    return read_bytes(folder / CERTIFICATE, "the fleet's certificate", FILE_LIMIT_BYTES)


def _key_of(name: str, request: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a signing request.

    Raises:
        SignatureError: it is no signing request, or not signed with its own key.
    """
    try:
        found = x509.load_pem_x509_csr(request[:FILE_LIMIT_BYTES])
        key = found.public_key()
        if not found.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise SignatureError(
            f"expected the signing request of {name} with an elliptic curve key, found something else; let the agent "
            f"make it"
        ) from error
    return key


def _client(authority: Authority, name: str, key: ec.EllipticCurvePublicKey, days: float) -> x509.Certificate:
    made = _issued(authority, _named(name), key, days)
    made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return made.sign(authority._key, hashes.SHA256())  # noqa: SLF001  # this module owns the key


def _write(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, folder: Path, stem: str) -> None:
    write_atomic(folder / f"{stem}.key", _key_pem(key), mode=0o600)
    write_atomic(folder / f"{stem}.pem", certificate.public_bytes(serialization.Encoding.PEM))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8, without a password: the file's mode guards it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _issued(
    authority: Authority, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    made = _builder(subject, authority.certificate.subject, key, days)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = made.add_extension(_usage(signs_certificates=False), critical=True)
    issuer = authority.certificate.public_key()
    assert isinstance(issuer, ec.EllipticCurvePublicKey)  # noqa: S101  # `load` and `create` see to it
    return made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=BACK_DATED_DAYS))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    bare = host.strip("[]")
    try:
        return x509.IPAddress(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        return x509.DNSName(bare)
    except ValueError as error:
        raise UsageError(f"expected a host name or an address, found {host!r}") from error
