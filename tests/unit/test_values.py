"""What the core's values accept, the one form they keep it in, and what they refuse."""

from __future__ import annotations

import decimal
import unicodedata
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benefits_core import InvalidUserIdError, InvalidValueError
from benefits_core.values import (
    MAX_ID_LENGTH,
    MAX_MONEY,
    change_of_money,
    difference,
    from_cents,
    money,
    normal_user_id,
    sum_of,
    text,
    to_cents,
    utc,
)

MAX_CENTS = 999_999_999_999


cents = st.integers(0, MAX_CENTS)
# What the program around us may have made of the decimal module: too few digits, odd rounding, anything trapped.
contexts = st.builds(
    Context,
    prec=st.integers(1, 28),
    rounding=st.sampled_from([decimal.ROUND_HALF_EVEN, decimal.ROUND_UP, decimal.ROUND_FLOOR]),
    Emin=st.sampled_from([-999999, -1]),
    Emax=st.sampled_from([999999, 1]),
    traps=st.sampled_from(
        [[], [decimal.Inexact, decimal.Rounded, decimal.Subnormal, decimal.FloatOperation]]
    ),
)
# Few letters, so that white space, marks in either order and the pieces of Hangul meet often.
names = st.text(
    st.sampled_from("aEe/ \t\u2000\u3000\u0301\u0316\u0323\u0345\u200d\u1100\u1161\u11a8\u212b😀")
)


@pytest.mark.parametrize(
    ("amount", "kept"),
    [
        ("0", "0.00"),
        ("-0", "0.00"),
        ("-0.000", "0.00"),
        ("0E+999999", "0.00"),
        ("0E-999999", "0.00"),
        ("0.01", "0.01"),
        ("75.5", "75.50"),
        ("75.9900", "75.99"),
        ("500", "500.00"),
        ("1E+2", "100.00"),
        ("9999999999.99", "9999999999.99"),
    ],
)
def test_money_is_kept_with_two_decimals(amount: str, kept: str) -> None:
    assert str(money(Decimal(amount))) == kept


@pytest.mark.parametrize(
    "value",
    [
        500,
        True,
        75.5,
        float("nan"),
        "500",
        None,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        Decimal("-0.01"),
        Decimal("-1E+999999"),
        Decimal("0.001"),
        Decimal("75.995"),
        Decimal("1E-999999"),
        Decimal("9999999999.991"),
        Decimal(10000000000),
        Decimal("1E+999999"),
    ],
    ids=repr,
)
def test_what_is_no_exact_amount_of_cents_within_bounds_is_not_money(value: object) -> None:
    with pytest.raises(
        InvalidValueError, match=r"^price must be a Decimal from 0 to 9,999,999,999\.99"
    ) as refusal:
        money(value, "price")
    assert (refusal.value.field, refusal.value.value) == ("price", value)


@pytest.mark.parametrize(
    ("amount", "kept"),
    [
        ("0", "0.00"),
        ("-0", "0.00"),
        ("0.01", "0.01"),
        ("-0.01", "-0.01"),
        ("-75.5", "-75.50"),
        ("-75.9900", "-75.99"),
        ("-1E+2", "-100.00"),
        ("9999999999.99", "9999999999.99"),
        ("-9999999999.99", "-9999999999.99"),
    ],
)
def test_a_change_of_money_is_money_or_its_negative(amount: str, kept: str) -> None:
    assert str(change_of_money(Decimal(amount))) == kept


@pytest.mark.parametrize(
    "value",
    [
        -500,
        -75.5,
        "-500",
        None,
        Decimal("NaN"),
        Decimal("-NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        Decimal("0.001"),
        Decimal("-0.001"),
        Decimal("-75.995"),
        Decimal("-1E-999999"),
        Decimal("-9999999999.991"),
        Decimal(-10000000000),
        Decimal(10000000000),
        Decimal("-1E+999999"),
    ],
    ids=repr,
)
def test_what_is_no_exact_amount_of_cents_within_bounds_is_no_change_of_money(value: object) -> None:
    with pytest.raises(InvalidValueError, match=r"^amount must be a Decimal from ") as refusal:
        change_of_money(value, "amount")
    assert refusal.value.field == "amount"


@given(st.integers(-MAX_CENTS, MAX_CENTS), contexts)
@example(-MAX_CENTS, Context(prec=3))
def test_a_change_of_money_is_exact_in_any_decimal_context(amount: int, context: Context) -> None:
    written = f"{'-' * (amount < 0)}{abs(amount) // 100}.{abs(amount) % 100:02}"
    with localcontext(context):
        assert str(from_cents(amount)) == written
        assert str(change_of_money(Decimal(written))) == written
        assert to_cents(change_of_money(Decimal(written))) == amount


@given(cents, contexts)
@example(MAX_CENTS, Context(prec=3))
def test_money_is_exact_in_any_decimal_context(amount: int, context: Context) -> None:
    written = f"{amount // 100}.{amount % 100:02}"
    with localcontext(context):
        assert str(from_cents(amount)) == written
        assert str(money(Decimal(written))) == written
        assert to_cents(Decimal(written)) == amount


@given(st.lists(cents), contexts)
@example([MAX_CENTS, MAX_CENTS, 1], Context(prec=3))
def test_sums_and_differences_are_exact_in_any_decimal_context(amounts: list[int], context: Context) -> None:
    with localcontext(context):
        total = sum_of(map(from_cents, amounts))
        left = difference(from_cents(1), total)
    assert total == Decimal(sum(amounts)) / 100
    assert left == Decimal(1 - sum(amounts)) / 100


def test_no_decimal_context_lets_half_a_cent_in() -> None:
    with localcontext(Context(prec=3)), pytest.raises(InvalidValueError):
        money(Decimal("75.995"))


def test_the_greatest_money_is_money() -> None:
    assert to_cents(money(MAX_MONEY)) == MAX_CENTS


@pytest.mark.parametrize(
    "value", ["x", "x" * 64, " x ", "e\u0301", "\xa0", "a/b", "👨\u200d👩\u200d👧", "😀" * 64]
)
def test_text_is_kept_as_it_is(value: str) -> None:
    assert text(value, "name", 64) == value


@pytest.mark.parametrize(
    "value", ["", "x" * 65, "😀" * 65, "a\nb", "\x00", "x\ud800", None, 7, b"x"], ids=repr
)
def test_text_of_the_wrong_length_or_kind_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"^name must be text of 1 to 64 code points") as refusal:
        text(value, "name", 64)
    assert (refusal.value.field, refusal.value.value) == ("name", value)


def test_text_may_hold_every_character_but_controls_and_surrogates() -> None:
    def is_text(character: str) -> bool:
        try:
            return text(character, "name", 1) == character
        except InvalidValueError:
            return False

    refused = {character for character in map(chr, range(0x10000)) if not is_text(character)}
    assert refused == {
        character for character in map(chr, range(0x10000)) if unicodedata.category(character) in {"Cc", "Cs"}
    }


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("johndoe", "johndoe"),
        ("JohnDoe", "JohnDoe"),
        (" \tJohn Doe\r\n", "John Doe"),
        ("\u3000José\xa0", "José"),
        ("Jose\u0301", "José"),
        ("\ufb01ona", "\ufb01ona"),
        ("a/b", "a/b"),
        ("%", "%"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("x" * 64, "x" * 64),
        (" " * 1000 + "x" * 64, "x" * 64),
        ("😀" * 64, "😀" * 64),
        ("e\u0301" * 64, "é" * 64),
        # No character takes more code points to write than these four.
        ("\u03b1\u0313\u0300\u0345" * 64, "\u1f82" * 64),
    ],
)
def test_a_user_id_is_trimmed_and_composed_and_nothing_else(typed: str, kept: str) -> None:
    assert normal_user_id(typed) == kept


@pytest.mark.parametrize(
    "name",
    [
        "",
        " \t\u3000",
        "x" * 65,
        "e\u0301" * 65,
        "x" + "\u0301" * 64,
        "a\nb",
        "a\x00",
        "a\x7fb",
        "a\x9f",
        "\ud800",
        "a\udfffb",
        None,
        7,
        b"johndoe",
    ],
    ids=repr,
)
def test_it_is_no_user_id(name: Any) -> None:
    with pytest.raises(InvalidUserIdError) as refusal:
        normal_user_id(name)
    assert (refusal.value.field, refusal.value.value) == ("user_id", name)


def test_an_endless_user_id_is_refused_without_being_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unicode sorts combining marks, and the time for that grows with the square of their number."""
    normalised: list[str] = []

    def normalize(_: str, name: str) -> str:
        normalised.append(name)
        return name

    monkeypatch.setattr(unicodedata, "normalize", normalize)
    with pytest.raises(InvalidUserIdError):
        normal_user_id("e" + "\u0301" * 1_000)
    assert normalised == []

    normal_user_id("jo")
    assert normalised == ["jo"]  # so it would have been seen


def _normal_or_none(name: str) -> str | None:
    try:
        return normal_user_id(name)
    except InvalidUserIdError:
        return None


@given(st.one_of(names, st.text()))
def test_a_normal_user_id_is_its_own_normal_form(name: str) -> None:
    normal = _normal_or_none(name)
    if normal is not None:
        assert normal_user_id(normal) == normal
        assert 1 <= len(normal) <= MAX_ID_LENGTH


@given(st.one_of(names, st.text(min_size=60, max_size=70)), st.text(st.sampled_from(" \t\u2000\u3000")))
def test_one_name_typed_in_two_ways_is_one_user(name: str, space: str) -> None:
    composed = unicodedata.normalize("NFC", name)
    decomposed = unicodedata.normalize("NFD", name)
    assert _normal_or_none(composed) == _normal_or_none(space + decomposed + space)


def test_a_moment_is_kept_in_utc() -> None:
    moment = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert utc(moment, "placed_at").isoformat() == "2026-01-01T23:30:00+00:00"


@pytest.mark.parametrize("value", [datetime(2026, 1, 2), "2026-01-02T00:00:00Z", 1767312000, None], ids=repr)  # noqa: DTZ001 - naive is the point
def test_a_moment_without_a_timezone_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"^placed_at must be a timezone-aware datetime"):
        utc(value, "placed_at")


def test_money_is_a_plain_decimal_whatever_subclass_it_was_given_as() -> None:
    class Tip(Decimal):
        pass

    assert type(money(Tip("1.50"))) is Decimal
    assert type(change_of_money(Tip("-1.50"))) is Decimal
