"""Text from outside, made safe to print. Oracles: strings written by hand, and str.isprintable."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handcnn.text import one_line, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("MNIST, größer als 9 字 🙂", "MNIST, größer als 9 字 🙂"),
        (Path("a folder/a picture.png"), "a folder/a picture.png"),
        (ValueError("no"), "no"),
        ("", ""),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("\x1b[2J\x07\x9b31m", r"\x1b[2J\x07\x9b31m"),  # clears the screen, beeps, turns red
        ("a\u202eb\u2028c", r"a\u202eb\u2028c"),  # reverses the text, breaks the line
        ("\udc80 \ud800", r"\udc80 \ud800"),  # a path of wrong bytes, half a letter from JSON
        ("x" * 300, "x" * 300),
        ("a" * 500 + "b" * 500, "a" * 147 + " ... " + "b" * 147),
        ("\0" * 200, r"\x00" * 36 + r"\x0 ... x00" + r"\x00" * 36),
        ("\0" * 10**8, r"\x00" * 36 + r"\x0 ... x00" + r"\x00" * 36),  # at once
    ],
)
def test_what_is_shown(text: object, shown: str) -> None:
    assert one_line(text) == shown


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=2000))
def test_whatever_the_text_it_is_one_short_printable_line(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable()
    assert len(shown) <= 300
    shown.encode()  # well-formed


def test_a_long_text_is_shortened_until_it_fits() -> None:
    assert shortened("0123456789", lambda shown: len(shown) <= 10, "..") == "0123456789"
    assert shortened("0123456789", lambda shown: len(shown) <= 6, "..") == "01..89"
    assert shortened("0123456789", lambda _: False, "..") == "0..9"  # no shorter
