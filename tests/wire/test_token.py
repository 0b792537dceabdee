"""Claim tokens: one word that says all, and says when it was copied badly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.errors import UsageError
from wire.token import PREFIX, Token, new_secret, parse_token

TOKEN = Token(("hub.example:8884", "[2001:db8::1]:8884"), "farm", "barn-1", bytes(range(16)), "ab" * 32)
GOLDEN = (
    "eqc1.lZKwaHViLmV4YW1wbGU6ODg4NLJbMjAwMTpkYjg6OjFdOjg4ODSkZmFybaZiYXJuLTHEEAABAgMEBQYHCAkKCwwNDg_EIKurq6urq6urq6ur"
    "q6urq6urq6urq6urq6urq6urq6ur"
)


def test_a_token_is_read_as_it_was_made() -> None:
    """What is in a token comes out of it, also with the blanks that a terminal or a file adds."""
    assert parse_token(TOKEN.text) == TOKEN
    half = len(TOKEN.text) // 2
    assert parse_token(f"  {TOKEN.text[:half]}\n  {TOKEN.text[half:]}\r\n") == TOKEN
    assert TOKEN.text.startswith(GOLDEN), "the bytes of tokens that are out there must stay readable"


def test_a_token_can_be_copied_with_a_double_click() -> None:
    """It is one word of letters that neither shells nor TOML nor URLs give a meaning to."""
    assert set(TOKEN.text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


@given(st.data())
def test_a_changed_letter_is_noticed(data: st.DataObject) -> None:
    """A word in which a letter is another one, or absent, is refused with a sentence that does not repeat it."""
    at = data.draw(st.integers(0, len(TOKEN.text) - 2))  # of the last letter two bits carry nothing
    letter = data.draw(st.sampled_from("aZ0-_.") | st.just(""))
    if TOKEN.text[at] == letter:
        return
    word = TOKEN.text[:at] + letter + TOKEN.text[at + 1 :]

    with pytest.raises(UsageError, match="expected a claim token, one word that begins with eqc1.") as error:
        parse_token(word)
    assert word[10:] not in str(error.value)


@given(st.binary(max_size=200))
def test_noise_is_no_token(noise: bytes) -> None:
    """Whatever follows the prefix, a reader says that it is no token."""
    with pytest.raises(UsageError):
        parse_token(PREFIX + noise.decode("latin-1"))


def test_the_secret_stays_out_of_words() -> None:
    """A token that is printed by mistake does not show its secret, and no two secrets are equal."""
    assert "secret" not in repr(TOKEN)
    assert repr(bytes(range(16)))[2:-1] not in repr(TOKEN)
    assert len({new_secret() for _ in range(100)}) == 100
