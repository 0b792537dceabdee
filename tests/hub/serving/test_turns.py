"""Whose turn it is to send: a table, told what happens and when."""

from __future__ import annotations

from hub.serving.turns import SILENT_S, UNDER_WAY_S, Turns

A, B, C, D = (("board", letter * 64) for letter in "abcd")
ALL = {A, B, C, D}


def test_so_many_bytes_at_once_and_the_others_in_line() -> None:
    """Whoever fits may send; who comes later than one in line waits behind, however small; the line moves in order."""
    turns = Turns(limit_bytes=10)

    assert [turns.may_send(key, size, 0.0) for key, size in ((A, 6), (B, 5), (C, 1), (D, 9))] == [
        True,
        False,
        False,
        False,
    ]
    assert turns.following(ALL.__contains__, 1.0) == []
    assert turns.following({B, C, D}.__contains__, 1.0) == [B, C]
    assert turns.following({D}.__contains__, 1.0) == [D]


def test_who_was_asked_may_be_asked_again() -> None:
    """Pieces that are lost are asked for although others wait, but not while they may be on their way."""
    turns = Turns(limit_bytes=7)
    turns.may_send(A, 6, 0.0)
    turns.may_send(B, 6, 0.0)

    assert not turns.may_send(A, 2, UNDER_WAY_S / 2)
    assert turns.may_send(A, 2, UNDER_WAY_S)
    assert not turns.may_send(B, 6, UNDER_WAY_S)


def test_what_is_larger_than_all_room_goes_alone() -> None:
    """It is asked for when nobody else is sending."""
    turns = Turns(limit_bytes=10)

    assert turns.may_send(A, 99, 0.0)
    assert not turns.may_send(B, 1, 0.0)
    assert turns.following({B}.__contains__, 0.0) == [B]
    assert not turns.may_send(C, 99, 0.0)


def test_silence_ends_a_turn_and_pieces_prolong_it() -> None:
    """Whoever sends keeps its turn, whoever does not loses it, and nobody waits who is not awaited any more."""
    turns = Turns(limit_bytes=10)
    for key in (A, B, C, D):
        turns.may_send(key, 5, 0.0)
    turns.heard(A, SILENT_S / 2)
    turns.heard(D, SILENT_S / 2)

    assert turns.following({A, B, D}.__contains__, SILENT_S) == [D]
    assert set(turns.asked) == {A, D}
    assert turns.line == {}
