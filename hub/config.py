"""hub.toml: what a hub is told before it starts. `hub init` writes it with its comments."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from console.errors import BadData, UsageError, join
from console.toml import read_toml
from hub.making.recipe import Recipe
from hub.masking.secure import SecureConfig
from hub.privacy.settings import PrivacyConfig
from hub.rounds.gate import NOISE
from wire.broker import Broker, Protocol, parse_broker
from wire.envelope import Trust
from wire.importance.moved import THRESHOLD
from wire.keys import PublicKey, read_public_key
from wire.record import NAME, at_least, matching, read_record

FILE = "hub.toml"
TEMPLATE = """\
# What this hub is told before it starts; a change takes effect at the next `edgequilt hub up`.

# All topics begin with this name; devices must know it too.
fleet = "{fleet}"

[broker]
# The broker that the hub starts. "amqtt" is inside the hub, for a first try: it has neither TLS nor an access list, so
# keep it on 127.0.0.1 or in a network that you trust. Messages are signed either way: who listens can read adapters,
# but not forge them. "mosquitto" (apt-get install mosquitto) is for real use: only certificates of this fleet come in.
kind = "amqtt"
listen = "{listen}"
# Names and addresses, beside this machine's own, under which boards reach a mosquitto of the hub.
# hosts = ["hub.example"]
# To use a broker of your own, uncomment what it needs; none is then started.
# url = "mqtts://broker.example:8883"
# ca = "ca.pem"
# certificate = "hub.pem"
# key = "hub-tls.key"
# username = "hub"
# password_file = "broker.password"
# Of MQTT: 5, or 3.1.1, or whichever of them the broker speaks.
# protocol = "auto"

[web]
# Where boards claim and renew their identity and fetch bundles, over HTTPS; empty to switch it off.
listen = "127.0.0.1:8884"
# Names and addresses, beside this machine's own and those of the broker, under which boards reach it; tokens say them.
# hosts = ["hub.example"]
# Bytes per second that bundles may take, in all and to each board; 0: as fast as it goes.
# rate = 0
# rate_per_device = 0

[identity]
# Days that the certificate of a device lasts; boards renew theirs by themselves after two thirds of it.
certificate_days = 365

[database]
# The ledger is a SQLite file in this folder. To keep it in PostgreSQL, uncomment; the password comes from the file, or
# from the variable EDGEQUILT_DATABASE_PASSWORD. Blobs and keys stay in this folder.
# url = "postgresql+psycopg://hub@db.example/edgequilt"
# password_file = "database.password"

[adapter]
# Directions that the hub keeps; at least the rank of the largest board.
rank = 16
# The factor before A B, the same for every rank.
scale = 2.0

[rounds]
# The share of a round's devices that must answer before its deadline, or the round fails.
quorum = 0.5
# Seconds from opening a round to its deadline, and once more for the gate.
deadline_s = 3600.0
# By how much the macro accuracy on rows that boards kept back may fall (0.01 is one point; of a model that goes on
# with texts, by how much the loss of a token may rise: 0.01 is a perplexity of 1 % more) before the gate refuses,
# and by how many standard errors beyond that: at 1.645 it refuses one in twenty versions that are just as good.
gate_tolerance = 0.0
gate_noise = 1.645
# After so many rounds of training one of statistics follows by itself and makes a new head; 0: only when asked for.
refresh_head = 0
# Whether boards that train tell how much each slot matters to their loss (docs/importance.md); never in private or
# secure rounds. Where that moved by more than a share of all since a plan was made, the hub says so.
# importance = true
# importance_moved = 0.1

[aggregation]
# How many adapters become one; `edgequilt hub round open` may choose otherwise for its round.
# The method: stacking (exact; any ranks), or one for comparison (`edgequilt hub methods`; docs/aggregation.md).
# method = "stacking"
# What a board counts by: samples, risk (its rows times its loss to a power), uniform; what boards declare of
# themselves counts at most so many times the median of all (0: no limit).
# weights = "samples"
# weights_cap = 10.0
# risk_power = 1.0
# A rule against bad boards: clip, clip-median, krum, multi-krum, geometric-median, cosine, median, trimmed-mean; how
# many may be bad (krum, multi-krum, trimmed-mean), the longest change (clip: its norm, clip-median: times the median
# of all), the smallest cosine with the middle of all changes.
# robust = "none"
# robust_bad = 1
# robust_clip = 1.0
# robust_cosine = 0.0
# What the hub does with the mean change: plain, momentum, adam, yogi, lamb; its rate (if not said: 1 for plain, 0.5
# for momentum and lamb, 3 for adam and yogi), times the root of how many boards there are per server_cohort (0: not).
# optimiser = "plain"
# server_rate = 1.0
# server_cohort = 0
# server_beta1 = 0.9
# server_beta2 = 0.99
# How a round of statistics makes a head: lda, ridge, nearest (class mean), or auto (nearest below 20 rows per class).
# head = "auto"
# Of ridge: its strength in mean squares of a feature, and its order.
# head_strength = 0.1
# head_order = 0
# How boards send what they learned: none (whole), fp16, int8, int4, or top:FRACTION, such as top:0.05 for the largest
# twentieth of the changes (docs/aggregation.md says what each costs and saves).
# thin = "none"

[privacy]
# Differential privacy of boards (docs/privacy.md). The noise on the sum of their changes in multiples of clip; 0: none.
noise = 0.0
# The largest Frobenius norm of a board's change, over all its slots together.
# clip = 1.0
# What is spent is an epsilon at this delta; no round is opened that would spend more than the budget (0: no limit).
# delta = 1e-5
# budget = 0.0
# Who is asked: all, poisson (each board with probability rate), or fixed (a share of that size, drawn).
# sampling = "all"
# rate = 1.0

[secure]
# Secure aggregation (docs/privacy.md): the hub learns the sum of a round's updates and no single one. Rounds are opened
# with --secure; if it is required, rounds of training and statistics that cannot be so are refused.
required = false
# So many boards must be left at the end; 0: more than two thirds of those asked.
# threshold = 0
# Numbers that boards add up in rounds of statistics are at most this large; of training, rows count up to so many,
# and no number of a change of B is larger than clip.
# (scalar_clip: no derivative along a direction.)
# bound = 67108864
# rows = 10000
# clip = 16.0
# scalar_clip = 1024.0

[retention]
# What boards sent is deleted when a round is over and so many days have passed since it came, or so many rounds after
# it are over (docs/privacy.md); 0: not by that. Scores, and what versions are made of, stay.
updates_days = 30.0
updates_rounds = 0

[trust]
# Whose bundles this hub takes: .pub files, relative to this file.
publishers = [{publishers}]
"""


@dataclass(frozen=True)
class BrokerConfig:
    """Where the hub meets its devices."""

    kind: Literal["amqtt", "mosquitto"] = "amqtt"
    listen: str = "127.0.0.1:1883"
    hosts: tuple[str, ...] = ()
    url: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    username: str = ""
    password_file: str = ""
    protocol: Protocol = "auto"
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WebConfig:
    """Where the hub serves HTTPS; an empty address: nowhere."""

    listen: str = "127.0.0.1:8884"
    hosts: tuple[str, ...] = ()
    rate: float = field(default=0.0, metadata=at_least(0.0))
    rate_per_device: float = field(default=0.0, metadata=at_least(0.0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class IdentityConfig:
    """How long an identity lasts."""

    certificate_days: float = field(default=365.0, metadata=at_least(1e-6, 36500.0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatabaseConfig:
    """Where the ledger is; without a URL, a file in the hub's folder."""

    url: str = ""
    password_file: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterConfig:
    """The hub's rank and scale."""

    rank: int = field(default=16, metadata=at_least(1, 1024))
    scale: float = field(default=2.0, metadata=at_least(1e-6, 1e6))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundsConfig:
    """When a round ends, and what its result must be."""

    quorum: float = field(default=0.5, metadata=at_least(0.0, 1.0))
    deadline_s: float = field(default=3600.0, metadata=at_least(1.0))
    gate_tolerance: float = field(default=0.0, metadata=at_least(0.0, 1.0))
    gate_noise: float = field(default=NOISE, metadata=at_least(0.0, 100.0))
    refresh_head: int = field(default=0, metadata=at_least(0))
    importance: bool = True
    importance_moved: float = field(default=THRESHOLD, metadata=at_least(0.0, 1.0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RetentionConfig:
    """For how long updates are kept after their rounds; 0: for ever."""

    updates_days: float = field(default=0.0, metadata=at_least(0.0))
    updates_rounds: int = field(default=0, metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrustConfig:
    """Whose bundles are taken."""

    publishers: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """The whole file."""

    fleet: str = field(metadata=matching(NAME))
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    web: WebConfig = field(default_factory=WebConfig)
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    aggregation: Recipe = field(default_factory=Recipe)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    secure: SecureConfig = field(default_factory=SecureConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    trust: TrustConfig = field(default_factory=TrustConfig)
    extra: dict[str, Any] = field(default_factory=dict)


def read_config(folder: Path) -> Config:
    """Read `hub.toml` of a hub's folder.

    Raises:
        UsageError: there is no hub in the folder, or the file says something that is not known.
    """
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"expected a hub in {folder}, found no {FILE}; make one with `edgequilt hub init {folder}`")
    try:
        config = read_record(Config, read_toml(path), str(path))
    except BadData as error:
        raise UsageError(str(error)) from error
    tables = {
        "": config.extra,
        "broker.": config.broker.extra,
        "web.": config.web.extra,
        "identity.": config.identity.extra,
        "database.": config.database.extra,
        "adapter.": config.adapter.extra,
        "rounds.": config.rounds.extra,
        "aggregation.": config.aggregation.extra,
        "privacy.": config.privacy.extra,
        "secure.": config.secure.extra,
        "retention.": config.retention.extra,
        "trust.": config.trust.extra,
    }
    unknown = [f"{at}{name}" for at, extra in tables.items() for name in extra]
    if unknown:
        raise UsageError(f"expected only what {FILE} documents in {path}, found {join(unknown)}; mend or remove it")
    return config


def listen_address(config: Config) -> tuple[str, int]:
    """Host and port of the embedded broker.

    Raises:
        UsageError: it is not HOST:PORT.
    """
    return host_and_port(config.broker.listen, "broker.listen")


def host_and_port(listen: str, what: str) -> tuple[str, int]:
    """An address of hub.toml where the hub listens.

    Raises:
        UsageError: it is not HOST:PORT.
    """
    host, _, port = listen.rpartition(":")
    if not re.fullmatch(r"[\w.:\[\]-]+", host) or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"expected {what} as HOST:PORT in {FILE}, found {listen!r}; mend it")
    return host, int(port)


def outside_broker(config: Config, folder: Path, url: str) -> Broker:
    """The broker that the user runs, with the files that hub.toml names.

    Raises:
        TransportError: the address is not one.
    """
    told = config.broker

    def at(name: str) -> Path | None:
        return folder / name if name else None

    password = (folder / told.password_file).read_text().strip() if told.password_file else None
    return replace(
        parse_broker(url),
        ca=at(told.ca),
        certificate=at(told.certificate),
        key=at(told.key),
        username=told.username or None,
        password=password,
    )


def publishers(config: Config, folder: Path) -> Trust:
    """The keys whose bundles are taken.

    Raises:
        StorageError: a file cannot be read.
        SignatureError: it is not a publisher's public key.
    """
    return Trust(publisher_keys(config, folder))


def publisher_keys(config: Config, folder: Path) -> list[PublicKey]:
    """The same, as a list."""
    return [read_public_key(folder / name, "publisher") for name in config.trust.publishers]
