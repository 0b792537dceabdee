"""Keys, envelopes and bundles: what is believed, and why."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from console.errors import BadData, EdgequiltError, IntegrityError, SignatureError, StorageError, UsageError
from tests.wire.samples import manifest
from wire.bundle import open_bundle
from wire.envelope import Trust, check_detached, detached, seal, unseal
from wire.files import digest, inside, write_atomic
from wire.keys import new_key, parse_public_key, read_private_key, read_public_key, verify_raw, write_key
from wire.manifest import parse_manifest, to_bytes
from wire.pack import pack, unpack

PKCS8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def test_keys_survive_their_files(tmp_path: Path) -> None:
    """A key that was written signs like the one that was made, and its secret is for its owner only."""
    key = new_key("device", "barn-1")
    secret, public = write_key(key, tmp_path)
    assert read_private_key(secret).public == key.public == read_public_key(public, "device")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "PRIVATE" not in repr(read_private_key(secret))


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """Losing a key loses a fleet."""
    write_key(new_key("hub", "h"), tmp_path)
    with pytest.raises(StorageError, match="a key is never overwritten"):
        write_key(new_key("hub", "h"), tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "a\udcff", "a\x1b"])
def test_a_key_has_a_name_that_can_be_written(name: str) -> None:
    """A name with blanks, with what no terminal shows, or with bytes that are no text, is refused before any file."""
    with pytest.raises(UsageError, match="expected a key name"):
        new_key("publisher", name)


def test_wrong_files_for_keys_are_named(tmp_path: Path) -> None:
    """A public key of another role, a secret where a public key belongs, and noise are each refused in words."""
    secret, public = write_key(new_key("hub", "h"), tmp_path)
    with pytest.raises(SignatureError, match="expected the public key of a device .* found one of a hub"):
        read_public_key(public, "device")
    with pytest.raises(SignatureError, match="take the .pub file"):
        read_public_key(secret, "hub")
    with pytest.raises(SignatureError, match="edgequilt key new"):
        read_private_key(public)
    with pytest.raises(UsageError, match="expected a role among publisher, hub, device"):
        new_key("king", "x")
    with pytest.raises(SignatureError, match="expected the public key"):
        parse_public_key("edgequilt-hub ed25519 AAAA x", "hub", "a message")


def test_an_envelope_holds_only_for_its_role_its_key_and_its_bytes() -> None:
    """Every way to bend an envelope is refused, with a sentence."""
    key, stranger = new_key("hub", "h"), new_key("hub", "s")
    trust = Trust([key.public, new_key("device", "d").public])
    sealed = seal(key, b"body")
    assert unseal(sealed, "hub", trust, "m")[0] == b"body"
    fields = unpack(sealed, "m")
    bent = {
        "another body": {**fields, "body": b"bodY"},
        "another role": None,
        "an unknown key": unpack(seal(stranger, b"body"), "m"),
        "no signature": {k: v for k, v in fields.items() if k != "sig"},
        "a short signature": {**fields, "sig": fields["sig"][:10]},
        "another version": {**fields, "v": 2},
        "no envelope": [1, 2],
    }
    for name, value in bent.items():
        data, role = (sealed, "device") if value is None else (pack(value), "hub")
        with pytest.raises(SignatureError, match="expected m"):
            pytest.fail(f"{name}: {unseal(data, role, trust, 'm')}")


def test_a_signature_in_one_role_is_worthless_in_another() -> None:
    """The role is part of what is signed, even when one key were trusted in two roles."""
    from wire.keys import PublicKey

    key = new_key("device", "d")
    both = Trust([key.public, PublicKey("hub", key.public.raw, "d")])
    with pytest.raises(SignatureError, match="found other bytes"):
        unseal(seal(key, b"x"), "hub", both, "m")


def test_detached_signatures() -> None:
    """A file beside its signature is checked like a message."""
    key = new_key("publisher", "p")
    envelope = detached(key, b"file")
    assert check_detached(envelope, b"file", "publisher", Trust([key.public]), "f") == key.public
    with pytest.raises(SignatureError, match="found other bytes"):
        check_detached(envelope, b"filE", "publisher", Trust([key.public]), "f")
    for noise in (b"", b"[]", b"{}", b'{"v": 1, "key": "a", "sig": "%%"}'):
        with pytest.raises(SignatureError, match="expected a version 1 signature"):
            check_detached(noise, b"file", "publisher", Trust([key.public]), "f")


HOSTILE = {
    "a truncated map": b"\x82\xa1",
    "an extension type": b"\xc7\x01\x05\x00",
    "a number as key": b"\x81\x01\x02",
    "a length beyond the end": b"\xdb\xff\xff\xff\xff",
    "deep nesting": b"\x91" * 5000 + b"\x00",
    "trailing bytes": b"\x01\x02",
    "broken text": b"\xa2\xff\xfe",
    "too long": b"\xc6" + (2_100_000).to_bytes(4, "big") + bytes(2_100_000),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_end_in_one_sentence(data: bytes) -> None:
    """Nothing that arrives raises anything but our errors."""
    with pytest.raises(BadData, match="expected a message"):
        unpack(data, "a message")


def _bundle(folder: Path) -> Trust:
    key = new_key("publisher", "p")
    blob = b"graph" * 100
    m = manifest({"segment0.forward.onnx": blob, "segment0.weights.bin": b"w", "golden.safetensors": b"g"})
    for name, data in {"segment0.forward.onnx": blob, "segment0.weights.bin": b"w", "golden.safetensors": b"g"}.items():
        write_atomic(folder / name, data)
    body = to_bytes(m)
    write_atomic(folder / "manifest.sig", detached(key, body))
    write_atomic(folder / "manifest.json", body)
    return Trust([key.public])


def test_a_bundle_opens_when_every_byte_is_as_signed(tmp_path: Path) -> None:
    """The identity of a bundle is the digest of its manifest."""
    trust = _bundle(tmp_path)
    bundle = open_bundle(tmp_path, trust)
    assert bundle.sha256 == digest((tmp_path / "manifest.json").read_bytes())
    assert bundle.manifest == parse_manifest((tmp_path / "manifest.json").read_bytes())


@pytest.mark.parametrize("name", ["segment0.forward.onnx", "manifest.json", "manifest.sig"])
def test_one_flipped_byte_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    """Whichever byte of whichever file is flipped, the bundle does not open."""
    trust = _bundle(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        if whole[at : at + 1].isspace():
            continue
        write_atomic(tmp_path / name, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if name == "manifest.sig" and json.loads(whole) == _loads(tmp_path / name):
            continue
        with pytest.raises(EdgequiltError, match="expected"):
            open_bundle(tmp_path, trust)


def _loads(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_absent_signature_and_missing_file(tmp_path: Path) -> None:
    """What is not there is named."""
    trust = _bundle(tmp_path)
    (tmp_path / "segment0.weights.bin").unlink()
    with pytest.raises(IntegrityError, match=r"segment0.weights.bin is missing"):
        open_bundle(tmp_path, trust)
    (tmp_path / "manifest.sig").unlink()
    with pytest.raises(SignatureError, match="expected a signature"):
        open_bundle(tmp_path, trust)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", "a\\b"])
def test_names_cannot_leave_the_bundle(tmp_path: Path, name: str) -> None:
    """A manifest cannot point outside its folder."""
    with pytest.raises(IntegrityError, match="expected a file name below"):
        inside(tmp_path, name)


def test_a_manifest_that_contradicts_itself_is_refused() -> None:
    """Names that point nowhere are found before anything is loaded."""
    data = json.loads(to_bytes(manifest({"segment0.forward.onnx": b"x"})))
    with pytest.raises(BadData, match=r"names file 'segment0.weights.bin', which is not listed"):
        parse_manifest(json.dumps(data).encode())
    data["states"] = [{"input": "h", "output": "h_next", "dtype": "float32", "shape": [1, 2]}]
    with pytest.raises(BadData, match=r"no graph takes the state 'h'; no graph gives the state 'h_next'"):
        parse_manifest(json.dumps(data).encode())
    graph = data["segments"][0]["graphs"][0]
    graph["outputs"].append({"name": "h_next", "dtype": "float32", "shape": [1, 2]})
    with pytest.raises(BadData, match=r"no graph takes the state 'h'"):
        parse_manifest(json.dumps(data).encode())
    over = {"id": "c", "position": 1, "devices": ["a", "b"], "objective": "fewest"}
    with pytest.raises(BadData) as caught:  # an earlier board takes it
        parse_manifest(json.dumps({**data, "chain": over}).encode())
    assert "state" not in str(caught.value)
    graph["outputs"].pop()
    graph["inputs"].append({"name": "h", "dtype": "float32", "shape": [1, 3]})
    graph["outputs"].append({"name": "h_next", "dtype": "float32", "shape": [1, 2]})
    with pytest.raises(
        BadData, match=r"takes the state 'h' as float32 \[1, 3\], where it is float32 \[1, 2\]"
    ) as caught:
        parse_manifest(json.dumps(data).encode())
    assert "h_next" not in str(caught.value)
    data["schema"] = 9
    with pytest.raises(BadData, match="schema 1, found 9; update edgequilt"):
        parse_manifest(json.dumps(data).encode())


def test_signatures_and_files_are_those_of_another_library(tmp_path: Path) -> None:
    """OpenSSL reads our key files, and each side believes what the other one signs, to the same bytes."""
    key = new_key("device", "barn-1")
    secret_path, _ = write_key(key, tmp_path)
    pem = secret_path.read_bytes().partition(b"\n")[2]
    other = serialization.load_pem_private_key(pem, None)
    assert isinstance(other, Ed25519PrivateKey)

    for data in (b"", b"edgequilt", bytes(range(256)) * 300):
        assert key.sign_raw(data) == other.sign(data)
        assert verify_raw(key.public, other.sign(data), data)
        other.public_key().verify(key.sign_raw(data), data)
        assert not verify_raw(key.public, other.sign(data), data + b"!")
    assert other.private_bytes(*PKCS8) == pem
    assert read_private_key(secret_path) == key


def test_a_signature_of_another_length_is_none(tmp_path: Path) -> None:
    """Bytes that belong to the message cannot be taken for the end of a shorter signature."""
    key = new_key("device", "barn-1")
    signature = key.sign_raw(b"message")

    assert not verify_raw(key.public, signature[:63], signature[63:] + b"message")
    assert not verify_raw(key.public, signature + b"m", b"essage")
    assert not verify_raw(key.public, b"", signature + b"message")
