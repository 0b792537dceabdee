"""A backup holds what a hub must not lose; a restored hub goes on with a fleet that has seen more than the backup."""

from __future__ import annotations

import io
import json
import resource
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from console.errors import (
    BadData,
    EdgequiltError,
    HubError,
    IntegrityError,
    SignatureError,
    StorageError,
    UsageError,
)
from hub import authority
from hub.store import registry
from hub.store.backup import INDEX, back_up, libpq
from hub.store.bundle_files import named_files
from hub.store.database import server
from hub.store.restore import EPOCH_S, restore
from tests.hub.world import World
from wire.files import digest
from wire.keys import new_key, write_key

if TYPE_CHECKING:
    from tests.postgres import Cluster

MakeWorld = Callable[..., World]


@pytest.fixture
def backend() -> str:
    """A ledger in a file."""
    return "sqlite"


NOW_S = 1_800_000_000.0


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A hub whose first version is released, running."""
    world = make_world()
    world.run("statistics")
    return world


def replaced(world: World, archive: Path) -> None:
    """The hub is lost with its folder; another one starts from the backup."""
    world.hub.close()
    shutil.rmtree(world.folder)
    restore(archive, world.folder, clock=lambda: NOW_S)
    world.now_s = NOW_S
    world.hub = world.start_hub()
    world.network.pump()


def test_a_restored_hub_is_the_same(world: World, tmp_path: Path) -> None:
    """All versions, rounds, updates and receipts of a running hub come back with their bytes, and the key's mode."""
    out = tmp_path / "b.tar"
    found = back_up(world.folder, out, keys=True)
    restore(out, tmp_path / "new", clock=lambda: NOW_S)

    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert (found["keys"], found["left_out"]) == (True, [])
    old = {p.relative_to(world.folder): p.read_bytes() for p in world.folder.glob("blobs/*/*")}
    new = {p.relative_to(tmp_path / "new"): p.read_bytes() for p in (tmp_path / "new").glob("blobs/*/*")}
    assert new == old
    assert len(new) > 5
    for name in ("hub.toml", "hub.key", "hub.pub"):
        assert (tmp_path / "new" / name).read_bytes() == (world.folder / name).read_bytes()
    assert stat.S_IMODE((tmp_path / "new" / "hub.key").stat().st_mode) == 0o600
    home = world.hub.home
    world.folder = tmp_path / "new"
    again = world.start_hub().home
    assert again.ledger.versions() == home.ledger.versions()
    assert again.ledger.updates(1) == home.ledger.updates(1)
    assert again.ledger.receipts(99) == home.ledger.receipts(99)


def test_no_secret_without_being_asked(world: World, tmp_path: Path) -> None:
    """Without --with-keys the archive holds no byte of the hub's keys, and says that they are left out."""
    out = tmp_path / "b.tar"
    found = back_up(world.folder, out, keys=False)

    for name in ("hub.key", "ca.key"):
        assert (world.folder / name).read_bytes().splitlines()[2] not in out.read_bytes()
    assert found["left_out"] == ["hub.key", "ca.key"]
    assert restore(out, tmp_path / "new")["key"] is False


def test_the_fleet_goes_on_after_a_restore(world: World, tmp_path: Path) -> None:
    """Devices that saw a newer release and did newer jobs follow the restored hub, and do its rounds anew."""
    out = tmp_path / "b.tar"
    back_up(world.folder, out, keys=True)
    world.run("train")
    world.run("statistics")
    before = {name: d.release.sequence for name, d in world.devices.items() if d.release is not None}
    assert [d.release.version for d in world.devices.values() if d.release is not None] == [3, 3, 3]

    replaced(world, out)

    releases = [d.release for d in world.devices.values() if d.release is not None]
    assert [r.version for r in releases] == [1, 1, 1]
    assert all(r.sequence > max(before.values()) for r in releases)
    done = world.run("train")
    assert (done["state"], done["answered"]) == ("complete", 3)
    assert done["round"] == int(NOW_S - EPOCH_S) // 60 + 1
    assert world.run("statistics")["released"]


def test_the_same_backup_twice(world: World, tmp_path: Path) -> None:
    """A backup that is restored a second time, later, again comes after all that the first one said."""
    out = tmp_path / "b.tar"
    back_up(world.folder, out, keys=True)
    sequences, rounds = [], []
    for number, later_s in enumerate((0.0, 3600.0)):
        restore(out, tmp_path / str(number), clock=lambda later_s=later_s: NOW_S + later_s)  # type: ignore[misc]  # mypy cannot infer the default's type
        world.folder = tmp_path / str(number)
        ledger = world.start_hub().home.ledger
        release = ledger.release("tiny")
        assert release is not None
        sequences.append(release["sequence"])
        rounds.append(ledger.last_round())
    assert sequences[0] < sequences[1]
    assert rounds[0] + 60 == rounds[1]


def test_updates_of_a_lost_round_are_refused(world: World, tmp_path: Path) -> None:
    """What a device does for a round that the restored hub never had is refused with words, and forgotten."""
    out = tmp_path / "b.tar"
    back_up(world.folder, out, keys=True)
    barn = world.devices["barn"]
    barn.jobs_held = True
    world.ask("open", kind="train")
    world.network.pump()
    replaced(world, out)
    barn.jobs_held = False
    world.settle(3)

    assert barn.outbox == {}
    assert "expected an update of a round of this hub, found job r2-train-barn" in barn.receipts[-1].reason
    assert world.hub.home.ledger.updates(2) == []


def test_a_hub_with_a_new_key_says_old_versions_again(world: World, tmp_path: Path) -> None:
    """When the hub's key is lost with the hub, a new key signs all that the restored one says, old versions too."""
    out = tmp_path / "b.tar"
    back_up(world.folder, out, keys=False)
    world.hub.close()
    shutil.rmtree(world.folder)
    restore(out, world.folder, clock=lambda: NOW_S)
    (world.folder / "hub.pub").unlink()
    new = new_key("hub", "hub")
    write_key(new, world.folder)
    for device in world.devices.values():
        device.hub, device.release, device.versions = new.public, None, {}

    world.now_s = NOW_S
    world.hub = world.start_hub()
    world.network.pump()

    assert [d.release.version for d in world.devices.values() if d.release is not None] == [1, 1, 1]
    assert world.run("train")["state"] == "complete"


def test_a_restore_takes_no_folder_in_use(world: World, tmp_path: Path) -> None:
    """A folder with a hub, or with anything, is refused, and so is a file that is there."""
    out = tmp_path / "b.tar"
    back_up(world.folder, out, keys=False)
    with pytest.raises(StorageError, match="expected no file at .*, found one; choose another name"):
        back_up(world.folder, out, keys=False)
    with pytest.raises(UsageError, match="expected no folder or an empty one at .*, found a hub"):
        restore(out, world.folder)
    with pytest.raises(UsageError, match="found something"):
        restore(out, tmp_path)


def test_a_damaged_hub_is_not_backed_up_as_if_whole(world: World, tmp_path: Path) -> None:
    """A blob that is missing or rotten is named, and no half of a file is left."""
    blob = next(p for p in world.folder.glob("blobs/*/*"))
    blob.write_bytes(blob.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="found other bytes; nothing was written"):
        back_up(world.folder, tmp_path / "b.tar", keys=False)
    blob.unlink()
    with pytest.raises(StorageError, match=f"expected to read .*{blob.name} for the backup"):
        back_up(world.folder, tmp_path / "b.tar", keys=False)
    assert not list(tmp_path.glob("*b.tar*"))
    assert not list(tmp_path.glob(".b.tar*"))


Files = list[tuple[tarfile.TarInfo, bytes]]


def members(archive: Path) -> Files:
    """What is in an archive."""
    with tarfile.open(archive) as tar:
        return [(m, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]  # all are files


def rewritten(archive: Path, files: Files) -> None:
    """The archive with other members."""
    with tarfile.open(archive, "w") as tar:
        for member, data in files:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _listed(files: Files, name: str, data: bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> Files:
    """One more member that the index lists, as somebody would who can write both."""
    index = json.loads(files[0][1])
    index["parts"].append({"name": name, "bytes": len(data), "sha256": digest(data)})
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return [(files[0][0], json.dumps(index).encode()), *files[1:], (member, data)]


TRICKS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "climbs out": (lambda f: _listed(f, "../evil", b"x"), "expected names of a hub's files"),
    "climbs out below": (lambda f: _listed(f, "publishers/../../evil", b"x"), "expected names of a hub's files"),
    "absolute": (lambda f: _listed(f, "/tmp/evil", b"x"), "expected names of a hub's files"),
    "hidden": (lambda f: _listed(f, ".bashrc", b"x"), "expected names of a hub's files"),
    "a link": (lambda f: _listed(f, "hub.link", b"", tarfile.SYMTYPE, "/etc/passwd"), "found 'hub.link'"),
    "a hard link": (lambda f: _listed(f, "hub.link", b"", tarfile.LNKTYPE, "hub.toml"), "found 'hub.link'"),
    "a device": (lambda f: _listed(f, "hub.null", b"", tarfile.CHRTYPE), "found 'hub.null'"),
    "not in the index": (lambda f: [*f, (tarfile.TarInfo("more"), b"x")], "found 'more'"),
    "twice the same": (lambda f: [*f, f[-1]], "expected only the files of its index"),
    "listed twice": (lambda f: _listed(f, "hub.toml", b"x"), "too few or twice the same"),
    "other bytes": (lambda f: [*f[:-1], (f[-1][0], bytes(len(f[-1][1])))], "found other bytes"),
    "cut off": (lambda f: f[:-1], "found 1 of them missing"),
    "no index": (lambda f: f[1:], f"expected {INDEX} first"),
    "nothing": (lambda f: [], f"expected {INDEX} first"),
}


@pytest.mark.parametrize(("trick", "words"), TRICKS.values(), ids=TRICKS.keys())
def test_archives_that_lie_write_nothing(
    small: Path, tmp_path: Path, trick: Callable[[Files], Files], words: str
) -> None:
    """Names that climb, links, devices, strangers, doubles, other bytes: refused with words, and no folder is made."""
    rewritten(small, trick(members(small)))
    place = tmp_path / "place"
    place.mkdir()

    with pytest.raises(EdgequiltError, match=words):
        restore(small, place / "new")
    assert list(place.iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.fixture
def small(make_world: MakeWorld, tmp_path: Path) -> Path:
    """A backup of a hub that has not had a round."""
    out = tmp_path / "b.tar"
    back_up(make_world().folder, out, keys=False)
    return out


@pytest.mark.parametrize("data", [b"", b"no archive at all", bytes(10240)], ids=["empty", "text", "zeros"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    """A file that is no backup is named as such."""
    path = tmp_path / "b.tar"
    path.write_bytes(data)
    with pytest.raises(BadData, match="expected"):
        restore(path, tmp_path / "new")


def test_a_cut_archive_is_refused(small: Path, tmp_path: Path) -> None:
    """However much of an archive is lost, nothing is made of it."""
    whole = small.read_bytes()
    for part in (0.1, 0.5, 0.9):
        small.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises((BadData, IntegrityError)):
            restore(small, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_nothing(small: Path, tmp_path: Path) -> None:
    """When the disk takes no more, no half of a folder or of a backup stays, and the sentence says why."""
    folder = tmp_path / "world-1" / "hub"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            restore(small, tmp_path / "new")
        with pytest.raises(StorageError, match="the database said"):
            back_up(folder, tmp_path / "again.tar", keys=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not list(tmp_path.glob("*new*"))
    assert not list(tmp_path.glob("*again*"))


@pytest.mark.postgresql
def test_a_ledger_in_postgresql_is_dumped_by_its_own_programs(
    cluster: Cluster, make_world: MakeWorld, tmp_path: Path
) -> None:
    """pg_dump before the backup and pg_restore before the restore bring a hub back; the wrong order is refused."""
    world = make_world()
    told = world.folder / "hub.toml"
    world.hub.close()
    old, new = cluster.prepared(), cluster.empty()
    text = told.read_text()
    told.write_text(text.replace("[database]\n", f'[database]\nurl = "{old}"\n'))
    home = registry.open_home(world.folder)
    registry.add_bundle(home, world.folder.parent / "bundle")
    for device in world.devices.values():
        registry.enroll(home, device.name, device.key.public.line)
    home.ledger.close()
    world.hub = world.start_hub()
    for device in world.devices.values():
        device.hello()
    world.network.pump()
    world.run("statistics")

    found = back_up(world.folder, tmp_path / "early.tar", keys=True)
    world.run("train")
    cluster.run("pg_dump", "--format=custom", "--file=ledger.dump", found["database"])
    back_up(world.folder, tmp_path / "late.tar", keys=True)
    world.run("statistics")
    world.hub.close()
    shutil.rmtree(world.folder)
    for name in ("early", "late"):
        archive = tmp_path / f"{name}.tar"
        files = members(archive)
        changed = [(m, d.replace(old.encode(), new.encode()) if m.name == "hub.toml" else d) for m, d in files]
        index = json.loads(changed[0][1])
        for part in index["parts"]:
            if part["name"] == "hub.toml":
                data = next(d for m, d in changed if m.name == "hub.toml")
                part.update(bytes=len(data), sha256=digest(data))
        rewritten(archive, [(changed[0][0], json.dumps(index).encode()), *changed[1:]])

    with pytest.raises(HubError, match="found an empty database; load the dump of before the backup first"):
        restore(tmp_path / "late.tar", world.folder)
    cluster.run("pg_restore", "--dbname", libpq(server(new)), "ledger.dump")
    with pytest.raises(IntegrityError, match="expected a dump from before the backup"):
        restore(tmp_path / "early.tar", world.folder)
    assert not world.folder.exists()
    restore(tmp_path / "late.tar", world.folder, clock=lambda: NOW_S)
    world.now_s = NOW_S
    world.hub = world.start_hub()
    world.network.pump()

    assert [row["number"] for row in world.hub.home.ledger.versions()] == [0, 1, 2]
    assert world.run("train")["state"] == "complete"


def test_the_fleet_s_authority_comes_along(world: World, tmp_path: Path) -> None:
    """A restored hub has the authority that its boards believe: its certificate always, its key with the keys."""
    made = authority.create("farm", world.folder)

    back_up(world.folder, tmp_path / "with.tar", keys=True)
    told = back_up(world.folder, tmp_path / "without.tar", keys=False)
    restore(tmp_path / "with.tar", tmp_path / "whole", clock=lambda: NOW_S)
    restore(tmp_path / "without.tar", tmp_path / "half", clock=lambda: NOW_S)

    assert authority.create("farm", tmp_path / "whole").fingerprint == made.fingerprint
    assert "ca.key" in told["left_out"]
    with pytest.raises(SignatureError, match=r"found ca.pem alone"):
        authority.create("farm", tmp_path / "half")


def test_bundles_are_in_it_where_that_is_asked_for(world: World, tmp_path: Path) -> None:
    """With them a restored hub serves every file of its bundles, by digest; without, backup and restore say so."""
    known = {source.sha256 for source in named_files(world.hub.home.ledger.database, world.hub.home.bundles).values()}
    left = back_up(world.folder, tmp_path / "small.tar", keys=True)
    assert (left["bundle_files"], left["bundle_files_left_out"]) == (0, len(known))
    assert restore(tmp_path / "small.tar", tmp_path / "small")["bundle_files_missing"] == len(known)

    found = back_up(world.folder, tmp_path / "b.tar", keys=True, bundles=True)
    assert (found["bundle_files"], found["bundle_files_left_out"]) == (len(known), 0)
    assert restore(tmp_path / "b.tar", tmp_path / "new")["bundle_files_missing"] == 0
    here = {path.name: digest(path.read_bytes()) for path in (tmp_path / "new" / "bundles").glob("*/*")}
    assert here == {name: name for name in known}
    assert known


def test_a_bundle_that_changed_makes_no_backup(world: World, tmp_path: Path) -> None:
    """A file that is not what its bundle says is named, and no half backup is left; without bundles it goes well."""
    for source in named_files(world.hub.home.ledger.database, world.hub.home.bundles).values():
        for path in source.places:
            path.unlink(missing_ok=True)
            path.write_bytes(b"other bytes")
        break
    with pytest.raises(IntegrityError, match="add the bundle again"):
        back_up(world.folder, tmp_path / "b.tar", keys=True, bundles=True)
    assert not list(tmp_path.glob("*b.tar*"))
    back_up(world.folder, tmp_path / "b.tar", keys=True)
