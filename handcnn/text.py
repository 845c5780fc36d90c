"""Make text from outside safe to print: file contents, paths, and errors that quote them."""

LONGEST = 300  # characters


def one_line(text: object) -> str:
    """Return `text` as one short line: control characters escaped, a long middle left out.

    A file may hold a megabyte of text, a line break, or an escape sequence that a terminal would
    obey. Use this function for everything printed from a file, and for every path.
    """
    text = str(text)
    line = escaped(text[:LONGEST] + text[LONGEST:][-LONGEST:])  # no more than this can be shown
    if len(line) <= LONGEST:
        return line
    half = (LONGEST - len(" ... ")) // 2
    return f"{line[:half]} ... {line[-half:]}"


def escaped(text: str) -> str:
    """Return `text`, of any length, with line breaks and control characters escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
