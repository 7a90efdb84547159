"""The rules of which key protects and when a new one is made, row by row."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID

import pytest

from kestrun_py.data_protection.encryptors import create_encryptor
from kestrun_py.data_protection.keys import Key, KeyChoice, choose_keys

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ENCRYPTOR = create_encryptor("AES_256_CBC", "HMACSHA256", bytes(64))


def key(number: int, created: float, activated: float, expires: float, *, revoked: bool = False) -> Key:
    """A key whose dates are given in days from now."""

    def day(days: float) -> datetime:
        return NOW + timedelta(days=days)

    return Key(UUID(int=number), day(created), day(activated), day(expires), ENCRYPTOR, revoked)


def choose(*keys: Key) -> KeyChoice:
    choices = {choose_keys(order, NOW) for order in permutations(keys)}
    assert len(choices) == 1, "the order of the keys must not matter"
    return choices.pop()


MINUTE = 1 / 24 / 60

CURRENT = key(1, -10, -10, 80)
OLDER = key(2, -70, -70, 20)
FRESH = key(3, -1, -1, 89)
FRESHER = key(4, -0.5, -0.5, 89.5)
EXPIRED = key(5, -100, -100, -10)
EXPIRED_EARLIER = key(6, -200, -200, -110)
REVOKED = key(7, -5, -5, 85, revoked=True)
FRESH_REVOKED = key(8, -1.5, -1.5, 88.5, revoked=True)
FUTURE = key(9, -1, 10, 89)
ENDING = key(10, -88, -88, 2)
SUCCESSOR = key(11, -1, 2, 89)


@pytest.mark.parametrize(
    ("keys", "default", "fallback", "new_key_after_days"),
    [
        pytest.param([], None, None, 0, id="empty ring"),
        pytest.param([CURRENT], CURRENT, None, None, id="one good key"),
        pytest.param([CURRENT, OLDER], CURRENT, None, None, id="the key activated last"),
        pytest.param([CURRENT, FRESH], CURRENT, None, None, id="a fresh key waits until it is known everywhere"),
        pytest.param([FRESH], FRESH, None, None, id="a fresh key is better than none"),
        pytest.param([FRESH, FRESHER], FRESH, None, None, id="of fresh keys the one activated first"),
        pytest.param([key(1, -2, -2, 88), CURRENT], key(1, -2, -2, 88), None, None, id="known everywhere: two days"),
        pytest.param([key(1, -9, -3, 81), key(2, -9, -3, 81)], key(1, -9, -3, 81), None, None, id="a tie: smaller id"),
        pytest.param([key(1, -9, 4 * MINUTE, 81)], key(1, -9, 4 * MINUTE, 81), None, None, id="clock skew forgiven"),
        pytest.param([key(1, -9, 6 * MINUTE, 81)], None, key(1, -9, 6 * MINUTE, 81), 0, id="too early for any skew"),
        pytest.param([FUTURE], None, FUTURE, 0, id="only a key for later"),
        pytest.param([EXPIRED], None, EXPIRED, 0, id="only an expired key"),
        pytest.param([EXPIRED, EXPIRED_EARLIER], None, EXPIRED, 0, id="fallback: the one made last"),
        pytest.param([EXPIRED, FUTURE], None, EXPIRED, 0, id="fallback: one known everywhere before a fresh one"),
        pytest.param([REVOKED], None, None, 0, id="only a revoked key"),
        pytest.param([REVOKED, CURRENT], None, CURRENT, 0, id="a revoked key ends the time of older ones"),
        pytest.param([REVOKED, FRESH], FRESH, None, None, id="the key made after a revocation is used"),
        pytest.param([EXPIRED, FRESH], FRESH, None, None, id="the key made after an expiration is used"),
        pytest.param([REVOKED, FRESH_REVOKED, FRESH], FRESH, None, None, id="revoked twice"),
        pytest.param([FRESH_REVOKED], None, None, 0, id="only a fresh revoked key"),
        pytest.param([CURRENT, FRESH_REVOKED], CURRENT, None, None, id="a revoked fresh key hides nothing"),
        pytest.param([key(1, -87, -87, 3)], key(1, -87, -87, 3), None, None, id="72 hours left are enough"),
        pytest.param([key(1, -87, -87, 2.99)], key(1, -87, -87, 2.99), None, 2.99, id="less than 72 hours are not"),
        pytest.param([ENDING], ENDING, None, 2, id="near its end: the new key follows without a gap"),
        pytest.param([ENDING, SUCCESSOR], ENDING, None, None, id="a successor is there"),
        pytest.param([ENDING, key(1, -1, 2 + 4 * MINUTE, 89)], ENDING, None, None, id="a successor within the skew"),
        pytest.param([ENDING, key(1, -1, 2.1, 89)], ENDING, None, 2, id="a successor that leaves a gap"),
        pytest.param([ENDING, key(1, -1, 2, 2.9)], ENDING, None, 2, id="a successor that ends soon, too"),
        pytest.param([ENDING, key(1, -1, 2, 89, revoked=True)], ENDING, None, 2, id="a revoked successor"),
        pytest.param([key(1, -90, -90, 0)], None, key(1, -90, -90, 0), 0, id="expired at this very moment"),
    ],
)
def test_choice(keys: list[Key], default: Key | None, fallback: Key | None, new_key_after_days: float | None) -> None:
    after = None if new_key_after_days is None else NOW + timedelta(days=new_key_after_days)
    assert choose(*keys) == KeyChoice(default, fallback, after)


def test_a_key_is_shown_without_its_secret() -> None:
    assert "encryptor" not in repr(CURRENT)
