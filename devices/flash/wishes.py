"""What a person wants of the system on a card, beside the agent: checked here, all problems at once."""

from __future__ import annotations

import hashlib
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass, field

from console.errors import UsageError, join
from devices.flash.ssh_keys import ssh_key_problem

HOSTNAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123, section 2.1, one label
USER = r"[a-z_][a-z0-9_-]{0,30}"
COUNTRY = r"[A-Z]{2}"
PSK = r"[0-9a-f]{64}"
SSID_BYTES = 32
WATCHDOG_S = 14  # the Raspberry Pi's counts to 15
WATCHDOG_LEAST_S, WATCHDOG_MOST_S = 5, 3600


@dataclass(frozen=True)
class Wishes:
    """What shall be set up; empty means: as the image has it.

    Attributes:
        hostname: one label.
        user: who may log in with `ssh_keys`.
        ssh_keys: lines of an authorized_keys file.
        wifi_ssid: the network's name. It is bytes on the air: what is no UTF-8 in them is here as Python keeps it in
            words of a command line (`surrogateescape`).
        wifi_password: 8 to 63 characters, or 64 hexadecimal digits, which are the key itself; empty: an open network.
        wifi_country: two letters, whose rules for radio hold.
        timezone: `Europe/Berlin`.
        sudo: whether `user` may do everything: he has a key and no password, so sudo asks him for none.
        watchdog_s: so long may the whole board hang until its hardware starts it again; 0: it may.
    """

    hostname: str = ""
    user: str = "edgequilt"
    ssh_keys: tuple[str, ...] = ()
    wifi_ssid: str = ""
    wifi_password: str = field(default="", repr=False)
    wifi_country: str = ""
    timezone: str = ""
    sudo: bool = True
    watchdog_s: int = WATCHDOG_S

    def __post_init__(self) -> None:
        """Check all of it.

        Raises:
            UsageError: naming everything that is wrong.
        """
        found = list(_problems(self))
        if found:
            raise UsageError(join(found))

    @property
    def ssid(self) -> bytes:
        r"""The network's name as it is on the air.

        >>> Wishes(wifi_ssid="Hof").ssid, Wishes(wifi_ssid=chr(0xDCFF)).ssid
        (b'Hof', b'\xff')
        """
        return self.wifi_ssid.encode("utf-8", "surrogateescape")

    @property
    def ssid_octets(self) -> str:
        """The same as NetworkManager's profiles take any name (nm-settings-keyfile(5)): `72;111;102;`."""
        return "".join(f"{byte};" for byte in self.ssid)

    @property
    def ssid_is_plain(self) -> bool:
        r"""Whether every program on the way to the radio reads the name as it is written: no quotes, no lists.

        >>> Wishes(wifi_ssid="Hof nebenan").ssid_is_plain, Wishes(wifi_ssid="72;111;").ssid_is_plain
        (True, False)
        """
        name = self.wifi_ssid
        return name.isprintable() and name == name.strip() and not set(name) & set("\\;\"'#")

    @property
    def wifi_key(self) -> str:
        """The 64 hexadecimal digits that stand for the password; empty for an open network.

        PBKDF2 with HMAC-SHA1, 4096 rounds, the SSID as salt, 32 bytes (IEEE 802.11-2020, annex J.4.1).

        >>> Wishes(wifi_ssid="IEEE", wifi_password="password").wifi_key[:16]
        'f42c6fc52df0ebef'
        """
        if not self.wifi_password or re.fullmatch(PSK, self.wifi_password.lower()):
            return self.wifi_password.lower()
        found = hashlib.pbkdf2_hmac("sha1", self.wifi_password.encode(), self.ssid, 4096, 32)
        return found.hex()


def _problems(wishes: Wishes) -> Iterator[str]:
    if wishes.hostname and not re.fullmatch(HOSTNAME, wishes.hostname):
        yield f"expected a --hostname of small letters, digits and '-', at most 63, found {wishes.hostname!r}"
    if not re.fullmatch(USER, wishes.user):
        yield f"expected a --user of small letters, digits, '_' and '-', found {wishes.user!r}"
    for number, key in enumerate(wishes.ssh_keys, 1):
        if problem := ssh_key_problem(key):
            where = f" in line {number}" if len(wishes.ssh_keys) > 1 else ""
            yield f"expected public SSH keys such as 'ssh-ed25519 AAAA...', found {problem}{where}; give the .pub file"
            break
    if wishes.timezone and wishes.timezone not in zoneinfo.available_timezones():
        yield f"expected a --timezone such as Europe/Berlin, found {wishes.timezone!r}"
    if wishes.watchdog_s and not WATCHDOG_LEAST_S <= wishes.watchdog_s <= WATCHDOG_MOST_S:
        limits = f"{WATCHDOG_LEAST_S} to {WATCHDOG_MOST_S}"
        yield f"expected --watchdog-s of {limits} seconds, or 0 for none, found {wishes.watchdog_s}"
    yield from _wifi_problems(wishes)


def _wifi_problems(wishes: Wishes) -> Iterator[str]:
    ssid, password = _ssid(wishes), wishes.wifi_password
    if ssid is None or len(ssid) > SSID_BYTES:
        yield f"expected a --wifi-ssid of at most {SSID_BYTES} bytes, found {'none' if ssid is None else len(ssid)}"
    if password and not ssid:
        yield "expected a --wifi-ssid beside the password, found none"
    good = 8 <= len(password) <= 63 and password.isascii() and password.isprintable()
    if password and not good and not re.fullmatch(PSK, password.lower()):
        yield f"expected a Wi-Fi password of 8 to 63 ASCII characters or 64 hexadecimal digits, found {len(password)}"
    if wishes.wifi_country and not re.fullmatch(COUNTRY, wishes.wifi_country):
        yield f"expected a --wifi-country of two letters such as DE, found {wishes.wifi_country!r}"


def _ssid(wishes: Wishes) -> bytes | None:
    try:
        return wishes.ssid
    except UnicodeEncodeError:  # half of a character of two, which no command line holds
        return None
