"""Requests for an identity and their answers: exact bytes, and one door for all that comes from outside."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import BadData, SignatureError
from wire.identity import BrokerAt, Claim, Granted, Renewal, check_signed, read_granted, read_signed, signed
from wire.keys import new_key, parse_public_key, verify_raw
from wire.record import plain

KEY = new_key("device", "barn-1")
CLAIM = Claim("farm", "barn-1", "00" * 16, KEY.public.line, "-----BEGIN ...")
RENEWAL = Renewal("farm", "barn-1", "nonce", "-----BEGIN ...")
GRANTED = Granted("farm", "barn-1", "PEM", "PEM", "hub", ("a", "b"), BrokerAt(True, "", 8883), ("h:1",), 1.5, 2.5)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def test_what_is_signed_is_what_is_sent() -> None:
    """The text of the body, with role and version before it, is what the signature is over (docs/identity.md)."""
    sent = signed(KEY, CLAIM)

    assert set(sent) == {"v", "body", "sig"}
    assert json.loads(sent["body"]) == {
        "type": "claim", "fleet": "farm", "name": "barn-1", "secret": "00" * 16, "key": KEY.public.line,
        "request": "-----BEGIN ...",
    }  # fmt: skip
    text = b"edgequilt/1/device\0" + sent["body"].encode()
    assert verify_raw(KEY.public, base64.b64decode(sent["sig"]), text)


def test_a_request_comes_back_with_what_it_does_not_know() -> None:
    """Fields of a newer version are kept, and the signature holds over them."""
    newer = replace(CLAIM, extra={"serial": "100000"})
    body, found = read_signed(signed(KEY, newer), Claim)
    assert body == newer
    check_signed(found, parse_public_key(body.key, "device", "here"), "a claim")
    assert read_signed(signed(KEY, RENEWAL), Renewal)[0] == RENEWAL


def test_a_request_is_of_its_kind_and_signed() -> None:
    """A claim is no renewal, and other bytes are not what was signed."""
    sent = signed(KEY, CLAIM)
    with pytest.raises(BadData, match="expected a renewal, found a request of another kind"):
        read_signed(sent, Renewal)
    for wrong in (sent | {"body": sent["body"] + " "}, sent | {"sig": ""}, sent | {"sig": "é"}, sent | {"sig": None}):
        with pytest.raises(SignatureError, match="expected a claim as barn-1 signed it, found other bytes"):
            check_signed(wrong, KEY.public, "a claim")


def test_secrets_stay_out_of_reprs() -> None:
    """What is printed by mistake does not hold a token's secret."""
    assert "00" * 16 not in repr(CLAIM)


def test_an_answer_is_read_as_it_was_written() -> None:
    """Through JSON and back."""
    assert read_granted(json.loads(json.dumps(plain(GRANTED)))) == GRANTED
    with pytest.raises(BadData, match=r"fleet: missing; .* broker: missing; .* at_s: missing"):
        read_granted({})
    wrong = plain(GRANTED) | {"broker": {"tls": True, "host": "", "port": 0}}
    with pytest.raises(BadData, match=r"broker.port: expected at least 1, found 0"):
        read_granted(wrong)


@settings(max_examples=50)
@given(PLAIN, PLAIN)
def test_whatever_comes_is_refused_in_words(noise: object, inner: object) -> None:
    """No JSON that is not a request or an answer brings a reader down."""
    for found in (noise, {"v": 1, "body": noise}, {"v": 1, "body": json.dumps(noise)}):
        with pytest.raises(BadData):
            read_signed(found, Claim)
    for change in ("fleet", "secret", "key", "request"):
        fields = {"type": "claim", **plain(CLAIM), change: inner}
        try:
            body, found = read_signed({"v": 1, "body": json.dumps(fields), "sig": inner}, Claim)
        except BadData:
            continue
        with pytest.raises(SignatureError):
            check_signed(found, parse_public_key(body.key, "device", "here"), "a claim")
    with pytest.raises(BadData):
        read_granted(noise)
