"""Keys in a hardware module (SoftHSM, one that is a program): the same fleet, and no secret in a file."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from console.errors import SignatureError, StorageError, UsageError
from hub import authority, hardware
from hub.hardware import PIN, Hardware, parse_uri
from hub.keys import read_key
from hub.store import registry
from hub.store.backup import back_up
from tests.conftest import ROOT
from tests.edge.identity.test_journey import COMMAND
from tests.hub.bundles import manifest, write_bundle
from tests.hub.world import World
from tests.programs import softhsm
from wire.envelope import Trust, seal, unseal
from wire.keys import new_key, read_public_key, write_key
from wire.pack import unpack
from wire.tls import new_request

SECRET_PIN = "73019-pin"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The library, which looks for its tokens in a folder of ours: once for a process."""
    if not os.environ.get("EDGEQUILT_ALL_PROGRAMS"):
        pytest.importorskip("pkcs11")
    _, library = softhsm()
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
        for label in ("fleet", "other"):
            _token(label)
        patch.setenv(PIN, SECRET_PIN)
        yield library


def _token(label: str) -> None:
    util, _ = softhsm()
    made = [util, "--init-token", "--free", "--label", label, "--pin", SECRET_PIN, "--so-pin", "0000"]
    subprocess.run(made, check=True, capture_output=True)


def _hub(folder: Path, module: Path, token: str = "fleet", fleet: str = "farm") -> Path:
    _, public = write_key(new_key("publisher", "acme"), folder / "p")
    registry.create(folder / "hub", fleet, [public], "127.0.0.1:0", Hardware(module, token))
    return folder / "hub"


def test_no_file_has_a_secret(tmp_path: Path, module: Path) -> None:
    """Where keys would be, the hub's folder says where they are, without the PIN."""
    hub = _hub(tmp_path, module)
    for path in (p for p in hub.rglob("*") if p.is_file()):
        data = path.read_bytes()
        assert b"PRIVATE" not in data
        assert SECRET_PIN.encode() not in data
    for name in ("hub.key", "ca.key"):
        assert "pkcs11:token=fleet;object=edgequilt%20farm" in (hub / name).read_text()


def test_what_is_signed_is_the_same_on_the_wire(tmp_path: Path, module: Path) -> None:
    """Envelopes and certificates look as those of keys in files, and who believes those believes these."""
    hub = _hub(tmp_path, module)
    key, public = read_key(hub, "hub"), read_public_key(hub / "hub.pub", "hub")
    assert SECRET_PIN not in repr(key)
    sealed = seal(key, b"body")
    assert unseal(sealed, "hub", Trust([public]), "m") == (b"body", public)
    soft = new_key("hub", "hub")
    mine, theirs = unpack(sealed, "m"), unpack(seal(soft, b"body"), "m")
    assert {k: (type(v), len(v) if k == "sig" else 0) for k, v in mine.items()} == {
        k: (type(v), len(v) if k == "sig" else 0) for k, v in theirs.items()
    }

    made, file = authority.load(hub), authority.create("farm", tmp_path / "file")
    _, request = new_request("barn-1", tmp_path)
    found = [
        x509.load_pem_x509_certificate(authority.issue_device(one, "barn-1", request.read_bytes()))
        for one in (made, file)
    ]
    found[0].verify_directly_issued_by(made.certificate)
    made.certificate.verify_directly_issued_by(made.certificate)
    assert found[0].signature_algorithm_oid == found[1].signature_algorithm_oid
    assert [e.oid for e in found[0].extensions] == [e.oid for e in found[1].extensions]
    authority.issue_server(made, ["127.0.0.1"], tmp_path, "web")
    (hub / "ca.pem").write_bytes(file.pem)
    with pytest.raises(SignatureError):
        authority.load(hub)


def test_a_round_of_such_a_hub(tmp_path: Path, module: Path) -> None:
    """Devices train and serve a version that the module signed; a hub that starts again has the same key."""
    publisher = new_key("publisher", "acme")
    _, public = write_key(publisher, tmp_path / "p")
    registry.create(tmp_path / "hub", "farm", [public], "127.0.0.1:0", Hardware(module, "fleet"))
    bundle = write_bundle(tmp_path / "bundle", publisher, *manifest())
    home = registry.open_home(tmp_path / "hub")
    registry.add_bundle(home, bundle)
    home.ledger.close()
    world = World(tmp_path, publisher)
    world.run("statistics")
    world.hub = world.start_hub()
    world.network.pump()
    assert all(device.release is not None for device in world.devices.values())


def test_a_pin_comes_from_a_file_or_the_environment(tmp_path: Path, module: Path) -> None:
    """Never from the command line; a file that others can read, a wrong PIN and none are refused without showing it."""
    pin = tmp_path / "pin"
    pin.write_text(f"{SECRET_PIN}\n")
    place = Hardware(module, "fleet", pin).at("edgequilt pins hub")
    hardware.log_out()
    with pytest.raises(UsageError, match=r"chmod 600"):
        hardware.hub_key(place, "hub", make=True)
    pin.chmod(0o600)
    assert hardware.hub_key(place, "hub", make=True).public == hardware.hub_key(place, "hub").public
    hardware.log_out()
    with pytest.raises(StorageError, match="expected a PIN in"):
        hardware.hub_key(Hardware(module, "fleet", tmp_path / "none").at("x"), "hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PIN, "wrong-one")
        with pytest.raises(SignatureError, match="the module said: PinIncorrect") as refused:
            hardware.hub_key(Hardware(module, "fleet").at("edgequilt pins hub"), "hub")
        assert "wrong-one" not in str(refused.value)
        patch.delenv(PIN)
        with pytest.raises(UsageError, match="found none; or use --pin-file"):
            hardware.hub_key(Hardware(module, "fleet").at("edgequilt pins hub"), "hub")


def test_another_token_is_another_hub(tmp_path: Path, module: Path) -> None:
    """A token with a key of the same name, and one without any, are refused before anything is signed."""
    hub = _hub(tmp_path, module, fleet="swapped")
    _hub(tmp_path / "b", module, "other", "swapped")
    text = (hub / "hub.key").read_text()
    (hub / "hub.key").write_text(text.replace("token=fleet", "token=other"))
    with pytest.raises(SignatureError, match="found another of that name"):
        read_key(hub, "hub")
    (hub / "hub.key").write_text(text.replace("farm", "barn").replace("swapped", "nowhere"))
    with pytest.raises(SignatureError, match="the module said: NoSuchKey"):
        read_key(hub, "hub")


def test_a_backup_says_that_they_are_not_in_it(tmp_path: Path, module: Path) -> None:
    """With keys or without: what is in a module stays there."""
    hub = _hub(tmp_path, module, fleet="kept")
    registry.open_home(hub).ledger.close()
    for keys in (True, False):
        found = back_up(hub, tmp_path / f"{keys}.tar", keys=keys)
        assert found["hardware"] == ["fleet"]
        assert b"PRIVATE" not in (tmp_path / f"{keys}.tar").read_bytes()


@pytest.mark.parametrize("text", ["pkcs11:token=a;object=b", "pkcs11:object=b?module-path=/x", "file:/x", "pkcs11:"])
def test_what_is_no_place_is_refused(text: str) -> None:
    """A reference without token, label or library is none, and one with a PIN in it is refused."""
    for given in (text, "pkcs11:token=a;object=b?module-path=/x&pin-value=1"):
        with pytest.raises(SignatureError, match="expected a PKCS#11 URI"):
            parse_uri(given, "a file")


@pytest.mark.fleet
def test_the_command_makes_such_a_hub(tmp_path: Path, module: Path) -> None:
    """`hub init --pkcs11 MODULE --token LABEL`, with the PIN in the environment, and a token is enrolled by it."""
    hub = tmp_path / "hub"
    init = [*COMMAND, "hub", "init", str(hub), "--fleet", "cli", "--pkcs11", str(module), "--token", "fleet"]
    done = subprocess.run([*init, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    enroll = [*COMMAND, "hub", "enroll", "barn-1", "--hub", str(hub), "--json"]
    done = subprocess.run(enroll, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tokens"]
    wrong = subprocess.run([*init[:-4], "--token", "fleet"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
