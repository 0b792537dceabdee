"""Accounts, written into the files of a root file system: a user who may log in with a key, and with no password."""

from __future__ import annotations

import time

from console.errors import BadData
from devices.flash.changes import Tree
from devices.flash.wishes import Wishes
from devices.payload.placed import Payload, Placed

FIRST_ID, LAST_ID = 1000, 60000
GROUPS = ("sudo", "adm", "video", "dialout")
SUDOERS = "/etc/sudoers.d/010-edgequilt"
NOBODY_LOGS_IN = ("nologin", "false", "sync")  # shells of accounts that are no person's


def groups(wishes: Wishes) -> tuple[str, ...]:
    """Those that an account joins, where the image has them."""
    return tuple(name for name in GROUPS if wishes.sudo or name != "sudo")


def sudo_payload(wishes: Wishes) -> Payload:
    """The rule that the account may do everything: it has a key and no password that sudo could ask for."""
    if not wishes.ssh_keys or not wishes.sudo:
        return Payload()
    return Payload((Placed(SUDOERS, f"{wishes.user} ALL=(ALL) NOPASSWD: ALL\n".encode(), 0o440),))


def require_account(root: Tree, wishes: Wishes, *, renamed: bool = False) -> None:
    """See that `wishes.user` can be made, or is somebody who may log in.

    Args:
        root: of the image.
        wishes: of the user.
        renamed: whether the system makes its first account into this one, which it cannot where there is another.

    Raises:
        BadData: the name is that of a group, or of an account of the system's own.
    """
    if not wishes.ssh_keys:
        return
    name = wishes.user
    found = next((line.split(":") for line in _lines(root, "passwd") if line.startswith(f"{name}:")), None)
    number = int(found[2]) if found is not None and len(found) == 7 and found[2].isdigit() else 0
    if found is not None:
        person = FIRST_ID <= number < LAST_ID and not found[-1].rstrip().endswith(NOBODY_LOGS_IN)
        if not person or (renamed and number != FIRST_ID):
            raise BadData(
                f"expected a --user that is new or a person's, found {name}, which the image has; another one"
            )
    elif any(line.startswith(f"{name}:") for line in _lines(root, "group")):
        raise BadData(f"expected a --user that is new, found {name}, a group of the image; take another name")


def user_payload(root: Tree, wishes: Wishes) -> Payload:
    """The account of `wishes.user` in passwd, shadow, group and gshadow, and his keys.

    An account of that name that is there stays as it is and gets the keys. Keys lie below /etc/ssh, since files of
    an image belong to root, and sshd refuses keys in a home that does.

    Raises:
        BadData: the root has no /etc/passwd, no number is free, or see `require_account`.
    """
    if not wishes.ssh_keys:
        return Payload()
    name, tables = wishes.user, {path: _lines(root, path) for path in ("passwd", "shadow", "group", "gshadow")}
    if not tables["passwd"]:
        raise BadData("expected /etc/passwd in the image's root, found none; is it a system's root?")
    require_account(root, wishes)
    files = [*_keys(root, wishes)]
    if not any(line.startswith(f"{name}:") for line in tables["passwd"]):
        number = _free([*tables["passwd"], *tables["group"]])
        days = int(time.time()) // 86400
        tables["passwd"].append(f"{name}:x:{number}:{number}::/home/{name}:/bin/bash")
        tables["shadow"].append(f"{name}:*:{days}:0:99999:7:::")  # no password does, a key does
        joined = groups(wishes)
        tables["group"] = [*_joined(tables["group"], name, joined), f"{name}:x:{number}:"]
        tables["gshadow"] = [*_joined(tables["gshadow"], name, joined), f"{name}:!::"]
        modes = {"passwd": 0o644, "shadow": 0o640, "group": 0o644, "gshadow": 0o640}
        files += [Placed(f"/etc/{path}", _text(lines), modes[path]) for path, lines in tables.items()]
        files += [Placed("/usr/lib/tmpfiles.d/edgequilt-home.conf", _home(name, number), 0o644)]
        return Payload(tuple(files)) + sudo_payload(wishes)
    return Payload(tuple(files))


def _keys(root: Tree, wishes: Wishes) -> list[Placed]:
    where = f"/etc/ssh/authorized_keys.d/{wishes.user}"
    option = b"AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u\nPasswordAuthentication no\n"
    return [
        Placed(where, _text(list(wishes.ssh_keys)), 0o644),
        Placed("/etc/ssh/sshd_config.d/10-edgequilt.conf", option, 0o644),
    ]


def _home(name: str, number: int) -> bytes:
    """systemd-tmpfiles makes the home at every start, and gives it to its owner."""
    return f"d /home/{name} 0750 {number} {number} -\n".encode()


def _lines(root: Tree, name: str) -> list[str]:
    return (root.read(f"/etc/{name}") or b"").decode(errors="surrogateescape").splitlines()


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode(errors="surrogateescape")


def _free(lines: list[str]) -> int:
    taken = {int(parts[2]) for parts in (line.split(":") for line in lines) if len(parts) > 2 and parts[2].isdigit()}
    found = next((number for number in range(FIRST_ID, LAST_ID) if number not in taken), None)
    if found is None:
        raise BadData("expected a free number for a user in the image, found none; leave --ssh-key out")
    return found


def _joined(lines: list[str], name: str, wanted: tuple[str, ...]) -> list[str]:
    """Members are the last field of a line, in group and in gshadow."""
    out = []
    for line in lines:
        group, _, _ = line.partition(":")
        if group in wanted and line.count(":") == 3:
            out.append(line + (name if line.endswith(":") else f",{name}"))
        else:
            out.append(line)
    return out
