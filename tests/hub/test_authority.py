"""The fleet's authority: what its certificates say, and that it is never replaced without a word."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from console.errors import SignatureError, UsageError
from hub.authority import HUB_NAME, create, issue_device, issue_hub, issue_server, load
from wire.record import NAME
from wire.tls import new_request


def named(certificate: x509.Certificate) -> str:
    """The common name."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_device_gets_its_name_and_keeps_its_key(tmp_path: Path) -> None:
    """A certificate carries the name that the hub gave, the key of the request, and was valid years ago already."""
    authority = create("farm", tmp_path)
    _, request = new_request("liar", tmp_path)

    made = x509.load_pem_x509_certificate(issue_device(authority, "barn-1", request.read_bytes()))

    assert named(made) == "barn-1"
    assert made.public_key() == x509.load_pem_x509_csr(request.read_bytes()).public_key()
    made.verify_directly_issued_by(authority.certificate)
    assert made.not_valid_before_utc < dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1000)
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """No key of the authority, of the hub, of a broker or of a board is readable by others, or shown by a repr."""
    authority = create("farm", tmp_path)
    issue_server(authority, ["127.0.0.1", "hub.example"], tmp_path, "broker")
    issue_hub(authority, tmp_path, "hub-tls")
    new_request("barn-1", tmp_path)

    keys = sorted(tmp_path.glob("*.key"))
    assert [key.name for key in keys] == ["barn-1.tls.key", "broker.key", "ca.key", "hub-tls.key"]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    assert "PRIVATE" not in repr(authority)


def test_no_device_can_be_called_as_the_hub_is(tmp_path: Path) -> None:
    """The hub's name in its certificate is none that a device may have."""
    issue_hub(create("farm", tmp_path), tmp_path, "hub-tls")

    assert named(x509.load_pem_x509_certificate((tmp_path / "hub-tls.pem").read_bytes())) == HUB_NAME
    assert not re.fullmatch(NAME, HUB_NAME)


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    """What is there is used again; half of it is refused with both ways out, and nothing is overwritten."""
    first = create("farm", tmp_path)
    assert create("farm", tmp_path).fingerprint == first.fingerprint == load(tmp_path).fingerprint
    (tmp_path / "ca.key").unlink()
    before = (tmp_path / "ca.pem").read_bytes()

    with pytest.raises(SignatureError, match=r"found ca.pem alone; restore the other one .*, or remove it too"):
        create("farm", tmp_path)
    assert (tmp_path / "ca.pem").read_bytes() == before


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    """A key and a certificate of two authorities, a request that is none, and a host that is none, are sentences."""
    authority = create("farm", tmp_path)
    with pytest.raises(SignatureError, match="expected the signing request of barn"):
        issue_device(authority, "barn", b"-----BEGIN CERTIFICATE REQUEST-----\nnone\n")
    with pytest.raises(UsageError, match="expected a host name or an address"):
        issue_server(authority, ["h\N{SNOWMAN}b"], tmp_path, "broker")
    (tmp_path / "ca.pem").write_bytes(create("other", tmp_path / "other").pem)
    with pytest.raises(SignatureError, match="of one authority"):
        load(tmp_path)


def test_a_request_for_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    """Only elliptic curves, which boards and brokers all know."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "barn")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(Ed25519PrivateKey.generate(), None)
    assert not isinstance(request.public_key(), ec.EllipticCurvePublicKey)

    with pytest.raises(SignatureError, match="elliptic curve"):
        issue_device(create("farm", tmp_path), "barn", request.public_bytes(serialization.Encoding.PEM))
