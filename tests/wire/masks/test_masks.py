"""Sums under masks, piece by piece: shares, keys, numbers, and what a board refuses."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from console.errors import BadData
from wire.masks import device as d
from wire.masks import fixed_point, pairwise, shamir
from wire.masks.agreement import agree, decrypt, encrypt, public_of
from wire.masks.told import Told, room, told_of

NAMES = ("barn", "coop", "mill", "yard")
TOLD = Told(threshold=3, boards=4, bound=4.0, fraction_bits=20)


def roster(names: tuple[str, ...] = NAMES) -> tuple[dict[str, d.Masking], dict[str, d.PublicKeys]]:
    """Boards whose job is done, and what they publish."""
    states = {name: d.begin(f"r1-train-{name}", 1, name, TOLD) for name in names}
    return states, {name: state.public for name, state in states.items()}


def shared() -> dict[str, d.Masking]:
    """Boards that have one another's shares."""
    states, keys = roster()
    states = {name: d.on_roster(state, keys) for name, state in states.items()}
    return {
        name: d.on_sealed(state, {n: s.sealed[name] for n, s in states.items() if n != name})
        for name, state in states.items()
    }


@given(st.binary(min_size=32, max_size=32), st.integers(1, 5), st.integers(0, 3), st.randoms())
@settings(max_examples=30, deadline=None)
def test_any_threshold_of_shares_give_the_secret(secret: bytes, threshold: int, more: int, random: object) -> None:
    """Every choice of t shares gives the secret back; the oracle solves the polynomial's equations with fractions."""
    below = random.randrange  # type: ignore[attr-defined]  # hypothesis's own random
    shares = shamir.split(secret, threshold, threshold + more, below)
    places = range(1, len(shares) + 1)

    for chosen in combinations(places, threshold):
        assert shamir.join({x: shares[x - 1] for x in chosen}) == secret
        assert _at_zero([(x, int.from_bytes(shares[x - 1], "big")) for x in chosen]) == int.from_bytes(secret, "big")


def _at_zero(points: list[tuple[int, int]]) -> int:
    """The value at 0 of the polynomial through some points, over the rationals and then in the field (Newton)."""
    table = [Fraction(y) for _, y in points]
    value, product = table[0], Fraction(1)
    for order in range(1, len(points)):
        table = [(table[i + 1] - table[i]) / (points[i + order][0] - points[i][0]) for i in range(len(points) - order)]
        product *= -points[order - 1][0]
        value += table[0] * product
    return value.numerator * pow(value.denominator, -1, shamir.PRIME) % shamir.PRIME


def test_the_field_is_one() -> None:
    """2^256 + 297 is prime (Miller and Rabin, forty bases), and no smaller number above 2^256 is."""

    def is_prime(n: int) -> bool:
        odd, twos = n - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        for base in range(2, 42):
            x = pow(base, odd, n)
            if x in (1, n - 1):
                continue
            if not any((x := x * x % n) == n - 1 for _ in range(twos - 1)):
                return False
        return True

    assert is_prime(shamir.PRIME)
    assert not any(is_prime(2**256 + more) for more in range(297))


def test_fewer_shares_say_nothing() -> None:
    """With one share less than the threshold, every secret is as possible as any other: a polynomial fits each."""
    first, second, *_ = shamir.split(bytes(32), 3, 4)
    values = [(1, int.from_bytes(first, "big")), (2, int.from_bytes(second, "big"))]
    for guess in (bytes(32), b"\x01" * 32, b"\xff" * 32):
        points = [(0, int.from_bytes(guess, "big")), *values]
        third = _at_zero([(x - 3, y) for x, y in points])  # of the parabola through the guess and two shares
        assert shamir.join({1: first, 2: second, 3: third.to_bytes(33, "big")}) == guess


def test_what_is_no_share_is_refused() -> None:
    """Shares that are too short or too large, or of something else than 32 bytes are refused in a sentence."""
    one = shamir.split(b"\x01" * 32, 2, 2)
    for wrong in ({}, {1: one[0][:-1]}, {0: one[0]}, {1: b"\xff" * 33}):
        with pytest.raises(BadData, match="expected shares of 33 bytes"):
            shamir.join(wrong)
    too_large = (shamir.PRIME - 1).to_bytes(33, "big")
    with pytest.raises(BadData, match="do not belong together"):
        shamir.join({1: too_large})


def test_two_boards_agree_and_nobody_else() -> None:
    """Both sides come to one key, another purpose to another; what was changed or is about others is refused."""
    one, other = bytes(range(32)), bytes(range(1, 33))
    key = agree(one, public_of(other), "mask")
    assert key == agree(other, public_of(one), "mask") != agree(one, public_of(other), "share")

    sealed = encrypt(key, b"secret", "shares")
    assert decrypt(key, sealed, "shares") == b"secret"
    for wrong, about in ((sealed[:-1] + bytes([sealed[-1] ^ 1]), "shares"), (sealed, "others"), (b"", "shares")):
        with pytest.raises(BadData, match=f"expected {about}"):
            decrypt(key, wrong, about)
    with pytest.raises(BadData, match="X25519"):
        agree(one, bytes(32), "mask")


@given(st.lists(st.lists(st.floats(-4, 4), min_size=3, max_size=3), min_size=1, max_size=20))
@settings(deadline=None)
def test_sums_of_integers_are_sums_of_values(rows: list[list[float]]) -> None:
    """The sum of encoded values is that of the values but for the rounding of each, n 2^-(f+1) at most."""
    values = np.array(rows)
    total = sum((fixed_point.encode(v, 4.0, 20) for v in values), np.zeros(3, np.uint64))
    assert np.abs(fixed_point.decode(total, 20) - values.sum(axis=0)).max() <= len(rows) * 2.0**-21 + 1e-12


def test_numbers_beyond_the_bound_are_refused() -> None:
    """A number above the bound or that is none is refused, and terms under which a sum could run over are, too."""
    for wrong in (4.1, -5.0, np.inf, np.nan):
        with pytest.raises(BadData, match="expected numbers up to 4"):
            fixed_point.encode(np.array([wrong]), 4.0, 20)
    assert room(3, 2.0**40, 20)
    with pytest.raises(BadData, match="run over"):
        told_of({"secure": {"threshold": 3, "boards": 4, "bound": 2.0**42, "fraction_bits": 20}})
    with pytest.raises(BadData, match="threshold above half"):
        told_of({"secure": {"threshold": 2, "boards": 4, "bound": 4.0, "fraction_bits": 20}})
    assert told_of({}) is None


def test_masks_cancel_in_the_sum_and_nowhere_else() -> None:
    """Four masked vectors sum to the plain sum once their own masks are off; each alone is uniform (chi-square)."""
    states, size = shared(), 70_000  # more than a block
    plain = {name: np.full(size, i, np.uint64) for i, name in enumerate(NAMES)}
    found = {}
    for name, state in states.items():
        seeds = d.seeds_of(state)
        found[name] = pairwise.add(plain[name].copy(), seeds.plus, seeds.minus)
        counts = np.bincount(found[name].view(np.uint8), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6
    total = sum(found.values(), np.zeros(size, np.uint64))

    opened = pairwise.add(total, [], [state.seed for state in states.values()])

    assert (opened == sum(range(4))).all()


def told(states: dict[str, d.Masking], lists: Mapping[str, tuple[str, ...]]) -> dict[str, d.Masking]:
    """Boards that were told these survivors, and the tags that they had from one another on them."""
    answers = {name: d.on_survivors(states[name], survivors) for name, survivors in lists.items()}
    TAGS.clear()
    TAGS.update({n: {m: tags[n] for m, (_, tags) in answers.items() if n in tags} for n in lists})
    return {name: state for name, (state, _) in answers.items()}


TAGS: dict[str, dict[str, bytes]] = {}
LEFT = ("barn", "coop", "mill")


def test_a_board_never_reveals_both_shares_of_another() -> None:
    """Survivors get their seeds revealed, the others their keys; another list of survivors afterwards is refused."""
    states = told(shared(), dict.fromkeys(LEFT, LEFT))
    barn, (after, seeds, keys) = states["barn"], d.on_open(states["barn"], TAGS["barn"])
    assert (set(seeds), set(keys)) == (set(LEFT), {"yard"})
    assert not set(seeds) & set(keys)

    assert d.on_open(after, {})[1:] == (seeds, keys)
    assert d.on_survivors(barn, ("mill", "coop", "barn", "barn"))[0] == barn
    for lie in (("barn", "coop", "yard"), NAMES):
        with pytest.raises(BadData, match="another one; a second story"):
            d.on_survivors(barn, lie)
    with pytest.raises(BadData, match="nothing is said"):
        d.on_survivors(after, LEFT)


def test_boards_that_are_told_different_stories_reveal_nothing() -> None:
    """Where fewer than the threshold were told one list, none of them opens it, whatever tags the hub passes on."""
    lists = {"barn": LEFT, "coop": LEFT, "mill": ("coop", "mill", "yard"), "yard": ("coop", "mill", "yard")}
    states = told(shared(), lists)
    for name in lists:
        with pytest.raises(BadData, match=r"expected 3 boards that were told the same survivors, found 2"):
            d.on_open(states[name], TAGS[name])
    forged = {"coop": TAGS["barn"]["coop"], "mill": TAGS["barn"]["coop"]}  # one board's word in another's name
    with pytest.raises(BadData, match="found 2 with this one"):
        d.on_open(states["barn"], forged)
    with pytest.raises(BadData, match="found it at masked; nothing is revealed"):
        d.on_open(shared()["barn"], {})


@pytest.mark.parametrize(
    "lie",
    [("barn", "coop"), ("coop", "mill", "yard"), ("barn", "coop", "hill"), ()],
    ids=["few", "not me", "stranger", "none"],
)
def test_what_survivors_cannot_be_is_refused(lie: tuple[str, ...]) -> None:
    """Fewer than the threshold, without the board itself, or with a stranger: nothing is revealed."""
    with pytest.raises(BadData, match="nothing is revealed"):
        d.on_survivors(shared()["barn"], lie)


def test_what_a_roster_cannot_be_is_refused() -> None:
    """A roster without the board's own keys, with too few or too many boards, one key twice, or a second roster."""
    states, keys = roster()
    barn, other = states["barn"], roster()[1]
    for wrong, why in (
        ({**keys, "barn": other["barn"]}, "own keys"),
        ({n: keys[n] for n in ("barn", "coop")}, "fewer than the threshold"),
        ({**keys, "zoo": other["yard"]}, "more than the 4"),
        ({**keys, "yard": keys["mill"]}, "one key"),
    ):
        with pytest.raises(BadData, match=why):
            d.on_roster(barn, wrong)
    after = d.on_roster(barn, keys)
    assert d.on_roster(after, keys) == after  # the same answer, to the byte
    with pytest.raises(BadData, match="another one; a second story"):
        d.on_roster(after, {n: keys[n] for n in ("barn", "coop", "mill")})


def test_shares_of_too_few_or_of_somebody_else_are_refused() -> None:
    """Nothing is masked against fewer boards than the threshold, strangers, or shares that were meant for another."""
    states, keys = roster()
    states = {name: d.on_roster(state, keys) for name, state in states.items()}
    barn, right = states["barn"], {n: states[n].sealed["barn"] for n in ("coop", "mill", "yard")}
    for wrong, why in (
        ({"coop": right["coop"]}, "expected shares of 3 boards"),
        ({**right, "hill": b""}, "strangers"),
        ({**right, "coop": states["coop"].sealed["mill"]}, "does not open|do not open|not open"),
    ):
        with pytest.raises(BadData, match=why):
            d.on_sealed(barn, wrong)
    after = d.on_sealed(barn, right)
    with pytest.raises(BadData, match="another one; a second story"):
        d.on_sealed(after, {n: right[n] for n in ("coop", "mill")})


def test_secrets_are_in_no_repr() -> None:
    """Whatever prints a board's state prints none of its secrets."""
    barn = shared()["barn"]
    text = repr(barn) + repr(d.seeds_of(barn))
    for secret in (barn.seed, barn.masking_secret, barn.sealing_secret, *barn.held.values(), *d.seeds_of(barn).plus):
        assert repr(secret) not in text
    gone = d.masked(barn)
    assert (gone.seed, gone.masking_secret) == (b"", b"")
    states = told(shared(), dict.fromkeys(LEFT, LEFT))
    assert d.on_open(states["barn"], TAGS["barn"])[0].sealing_secret == b""
