"""A reward token says what was signed, to whom it was signed for, while it is good; nothing else is accepted."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stageroute_router.errors import (
    InvalidTokenError,
    MalformedTokenError,
    SettingsError,
    TokenCallerError,
    TokenExpiredError,
    TokenSignatureError,
)
from stageroute_router.rewards.tokens import LEEWAY_S, PREFIX, RewardTokens, TokenClaims, TokenKey, is_token
from stageroute_router.testing.clock import FakeClock

LIFETIME_S = 3600.0
URL_SAFE = set(string.ascii_letters + string.digits + "-_.")
OLD = TokenKey(key_id="2025", secret=b"an old secret of thirty-two bytes")
NEW = TokenKey(key_id="2026", secret=b"a new secret of thirty-two bytes!")
DECISION = "sr-0123456789abcdef0123456789abcdef"

callers = st.none() | st.text(max_size=50)
decision_ids = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=100)
arms = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def tokens(*keys: TokenKey, clock: FakeClock | None = None) -> RewardTokens:
    return RewardTokens(lambda: keys or (NEW,), lifetime_s=LIFETIME_S, clock=clock or FakeClock())


def minted(made: RewardTokens, *, caller: str | None = None) -> str:
    return made.mint(decision_id=DECISION, arm="openai/gpt-4o-mini", stage=7, caller=caller)


@given(decision_id=decision_ids, arm=arms, stage=st.integers(0, 2**32 - 1), caller=callers)
def test_what_was_signed_comes_back(decision_id: str, arm: str, stage: int, caller: str | None) -> None:
    made = tokens()
    token = made.mint(decision_id=decision_id, arm=arm, stage=stage, caller=caller)
    claims = TokenClaims(decision_id=decision_id, arm=arm, stage=stage, issued_at=1_700_000_000)
    assert made.read_from(token, caller=caller) == claims
    assert made.read(token) == claims
    assert is_token(token)
    assert set(token) <= URL_SAFE


@given(bit=st.integers(0, 2_000))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    token = minted(tokens(), caller="alice")
    data = bytearray(base64.urlsafe_b64decode(token[len(PREFIX) :] + "=="))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    changed = PREFIX + base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    with pytest.raises(InvalidTokenError):
        tokens().read(changed)


@given(place=st.integers(0, 200), character=st.sampled_from([*sorted(URL_SAFE), *"=\n +é\0"]))
def test_any_changed_character_is_refused_even_where_base64_would_not_mind(
    place: int, character: str
) -> None:
    token = minted(tokens())
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    longer = token[:place] + character + token[place:]
    for forged in {changed, longer, token + character} - {token}:
        with pytest.raises(InvalidTokenError):
            tokens().read_from(forged, caller=None)


@given(length=st.integers(0, 200))
def test_any_truncation_is_refused(length: int) -> None:
    token = minted(tokens())
    with pytest.raises(InvalidTokenError):
        tokens().read(token[: length % len(token)])


@given(
    text=st.text()
    | st.binary()
    | st.none()
    | st.integers()
    | st.builds(lambda text: PREFIX + text, st.text())
)
def test_what_was_never_a_token_is_refused(text: object) -> None:
    with pytest.raises(MalformedTokenError, match="not a reward token"):
        tokens().read_from(text, caller=None)


def test_text_beyond_any_tokens_length_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(MalformedTokenError):
        tokens().read(PREFIX + "A" * 10_000_000)


def test_a_token_is_good_for_its_lifetime_and_the_leeway() -> None:
    clock = FakeClock()
    made = tokens(clock=clock)
    token = minted(made)
    clock.advance(LIFETIME_S + LEEWAY_S)
    assert made.read(token).decision_id == DECISION
    clock.advance(1)
    with pytest.raises(TokenExpiredError):
        made.read(token)


def test_a_token_of_a_host_whose_clock_is_ahead_is_good_within_the_leeway_only() -> None:
    host = FakeClock()
    token = minted(tokens(clock=host))
    host.advance(-LEEWAY_S)
    assert tokens(clock=host).read(token).stage == 7
    host.advance(-1)
    with pytest.raises(TokenExpiredError):
        tokens(clock=host).read(token)


def test_keys_are_exchanged_without_refusing_tokens_that_are_out() -> None:
    before, during, after = tokens(OLD), tokens(NEW, OLD), tokens(NEW)
    old, new = minted(before, caller="alice"), minted(during, caller="alice")
    for token in (old, new):
        assert during.read_from(token, caller="alice").decision_id == DECISION
    assert after.read(new).decision_id == DECISION
    for made, token in ((after, old), (before, new)):
        with pytest.raises(TokenSignatureError):
            made.read(token)


def test_the_same_id_with_another_secret_is_refused() -> None:
    forger = TokenKey(key_id=NEW.key_id, secret=b"a guess of about thirty-two bytes")
    with pytest.raises(TokenSignatureError):
        tokens().read(minted(tokens(forger)))


@pytest.mark.parametrize("other", [None, "", "bob", "alice ", "Alice"])
def test_a_token_for_one_caller_is_refused_from_another(other: str | None) -> None:
    token = minted(tokens(), caller="alice")
    with pytest.raises(TokenCallerError):
        tokens().read_from(token, caller=other)


def test_a_token_without_a_caller_is_refused_from_a_named_caller() -> None:
    """A door that checks callers must not be opened by a token that was made without one."""
    with pytest.raises(TokenCallerError):
        tokens().read_from(minted(tokens()), caller="alice")


def test_a_forged_caller_is_not_told_apart_from_a_forged_decision() -> None:
    """The signature is checked first: a forger learns nothing about callers."""
    token = minted(tokens(OLD), caller="alice")
    with pytest.raises(TokenSignatureError):
        tokens(NEW).read_from(token, caller="bob")


def test_tokens_do_not_tell_whose_they_are_nor_which_are_the_same_persons() -> None:
    made = tokens()
    first = made.mint(decision_id="sr-1", arm="", stage=1, caller="alice")
    second = made.mint(decision_id="sr-2", arm="", stage=1, caller="alice")
    data = [base64.urlsafe_b64decode(token[len(PREFIX) :] + "==") for token in (first, second)]
    assert all(b"alice" not in token for token in data)
    assert data[0][14:30] != data[1][14:30]
    assert data[0][14:30] != bytes(16)


def test_an_arm_with_a_name_too_long_for_a_token_has_a_clear_error() -> None:
    with pytest.raises(SettingsError, match=r"256 bytes.*model_info\.stageroute\.arm"):
        tokens().mint(decision_id=DECISION, arm="m" * 256, stage=1)
    longest = tokens().mint(decision_id="d" * 255, arm="m" * 255, stage=2**32 - 1)
    assert tokens().read(longest).arm == "m" * 255


def test_messages_and_representations_hold_no_secret_and_no_token() -> None:
    made, token = tokens(NEW), minted(tokens(OLD))
    with pytest.raises(InvalidTokenError) as refused:
        made.read(token)
    for shown in (repr(NEW), repr(made), str(refused.value)):
        assert NEW.secret.decode() not in shown
        assert token not in shown
