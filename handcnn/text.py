"""Text for people: numbers formatted, long text shortened, text from outside made safe to print."""

import re
from collections.abc import Callable, Sequence

DIGITS = tuple("0123456789")  # the class names of the ten digits
MAX_CHARACTERS = 300  # of a line from outside


def are_digits(names: Sequence[str]) -> bool:
    """Return whether these are the class names of the ten digits."""
    return tuple(names) == DIGITS


def percent(probability: float) -> str:
    """Return a probability in per cent, never rounded to 0 or 100.

    A softmax reaches 0 and 1 only by rounding, so these read "< 0.01 %" and "> 99.99 %" as well.
    """
    text = f"{100 * float(probability):.2f} %"
    return {"0.00 %": "< 0.01 %", "100.00 %": "> 99.99 %"}.get(text, text)


def exact_percent(share: float) -> str:
    """Return a share of a count in per cent: 100.00 % means all, 0.00 % means none."""
    return f"{share:.2%}".replace("%", " %") if share in (0, 1) else percent(share)


def one_line(text: object) -> str:
    """Return `text` as one short line: control characters escaped, a long middle left out.

    A file may hold a megabyte of text, a line break, or an escape sequence that a terminal would
    obey. Use this function for everything printed from a file, and for every path.
    """
    text = str(text)
    shown = text[:MAX_CHARACTERS] + text[MAX_CHARACTERS:][-MAX_CHARACTERS:]  # or its two ends
    line = escaped(shown)
    return shortened(line, lambda shown: len(shown) <= MAX_CHARACTERS, " ... ")


def escaped(text: str) -> str:
    """Return `text`, of any length, with line breaks and control characters escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def shortened(text: str, fits: Callable[[str], bool], dots: str) -> str:
    """Return `text`, or if it does not fit, its two ends with `dots` between them."""
    shown, kept = text, len(text) // 2
    while not fits(shown) and kept > 1:
        kept -= 1
        shown = f"{text[:kept]}{dots}{text[-kept:]}"
    return shown


def natural_order(name: str) -> list[str | int]:
    """Return a key to sort names by, in which numbers count as such: 9.png before 12.png."""
    parts = re.split("([0-9]+)", name)  # text and numbers alternate
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
