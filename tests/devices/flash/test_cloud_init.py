"""What cloud-init is told, held against the schemas of its own package."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from devices.flash.systems.cloud_init import network, user_data
from devices.flash.wishes import Wishes
from tests.devices.flash.schema import problems
from tests.devices.flash.seen import KEY, WISHES
from tests.devices.flash.vendors import cloud_init

pytestmark = pytest.mark.heavy  # the package is fetched
FOLDER = "usr/lib/python3/dist-packages/cloudinit/config/schemas"
# netplan's reference of a device of Wi-Fi, as far as we write one
NETPLAN: dict[str, Any] = {
    "type": "object",
    "required": ["access-points"],
    "additionalProperties": False,
    "properties": {
        "dhcp4": {"type": "boolean"},
        "optional": {"type": "boolean"},
        "regulatory-domain": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "access-points": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "password": {"type": "string", "pattern": "^([0-9a-f]{64}|.{8,63})$"},
                    "auth": {"type": "object", "properties": {"key-management": {"enum": ["none", "psk", "sae"]}}},
                },
            },
        },
    },
}
ALL = {
    "everything": WISHES,
    "nothing": Wishes(),
    "a key alone": Wishes(ssh_keys=(KEY,)),
    "no sudo": replace(WISHES, sudo=False),
    "an open network": replace(WISHES, wifi_password=""),
    "no country": replace(WISHES, wifi_country=""),
}


def schema(name: str) -> dict[str, Any]:
    """One of the package's."""
    found: dict[str, Any] = json.loads((cloud_init() / FOLDER / name).read_text())
    return found


@pytest.mark.parametrize("name", ALL)
def test_user_data_is_as_its_schema_wants_it(name: str) -> None:
    """Every entry is known and of its kind."""
    told = schema("schema-cloud-config-v1.json")
    assert list(problems(user_data(ALL[name]), told, told)) == []


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name].wifi_ssid])
def test_network_config_is_as_its_schema_wants_it(name: str) -> None:
    """The cable by the package's schema; the Wi-Fi, which that one leaves to netplan, by what netplan's page lists."""
    told, made = schema("schema-network-config-v2.json"), network(ALL[name])
    wifi = made.pop("wifis")["wlan0"]
    assert list(problems(made, told, told)) == []
    assert list(problems(wifi, NETPLAN, NETPLAN)) == []


def test_the_schemas_refuse() -> None:
    """What the tests above rest on: an unknown entry, another kind, a key that is no text."""
    key = {"name": "a", "ssh_authorized_keys": [1]}
    wrong: list[dict[str, Any]] = [{"hostnam": "x"}, {"hostname": 1}, {"user": key}, {"runcmd": "x"}]
    told = schema("schema-cloud-config-v1.json")
    assert all(list(problems(one, told, told)) for one in wrong)
    wrong = [{}, {"version": 2, "ethernets": {"eth0": {"dhcp4": "perhaps"}}}, {"version": 2, "ethernet": {}}]
    told = schema("schema-network-config-v2.json")
    assert all(list(problems(one, told, told)) for one in wrong)
    assert list(problems({"access-points": {"Hof": {"pass": "x"}}}, NETPLAN, NETPLAN))
