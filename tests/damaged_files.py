"""A Hypothesis strategy for damaged files, shared by the tests of everything that reads files."""

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]

number_of_files = 200  # to damage in each test; conftest.py sets it to the value of --damages

# Where the facts about a file stand: before entries of a zip file, and at the start of an array.
HEADERS = (b"PK", b"\x93N")


@st.composite
def damages(draw: st.DrawFn, other: bytes = b"") -> Damage:
    """Draw a way to damage a file, in up to three steps.

    A step changes a byte, half of the time near a header, or cuts the file off, doubles or drops a
    part of it, or continues with a part of `other`, a second file of the same kind.
    """
    steps = [draw(_step(other)) for _ in range(draw(st.integers(1, 3)))]

    def damage(content: bytes) -> bytes:
        for step in steps:
            content = step(content)
        return content

    return damage


@st.composite
def _step(draw: st.DrawFn, other: bytes) -> Damage:
    kinds = ("change", "change near a header", "cut", "double", "drop", "splice")
    kind = draw(st.sampled_from(kinds if other else kinds[:-1]))
    one, two = (draw(st.floats(0, 1, exclude_max=True)) for _ in range(2))
    byte, offset = draw(st.integers(1, 255)), draw(st.integers(0, 63))

    def step(content: bytes) -> bytes:
        first, last = sorted(int(place * len(content)) for place in (one, two))
        if kind == "change near a header":
            headers = [i for i in range(len(content)) if content[i : i + 2] in HEADERS] or [0]
            first = min(headers[int(one * len(headers))] + offset, len(content) - 1)
        if kind.startswith("change"):
            changed = bytes([content[first] ^ byte]) if content else b""
            return content[:first] + changed + content[first + 1 :]
        rest = {
            "cut": b"",
            "double": content[first:last] * 2 + content[last:],
            "drop": content[last:],
            "splice": other[int(two * len(other)) :],
        }
        return content[:first] + rest[kind]

    return step


def fuzzed() -> settings:
    """Return the settings for `--damages N` files; the examples share the test's folder."""
    return settings(
        max_examples=number_of_files,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
