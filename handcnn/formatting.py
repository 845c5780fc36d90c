"""Numbers formatted for people, on the screen and in plots."""


def percent(probability: float) -> str:
    """Return a probability in per cent, never rounded to 0 or 100.

    A softmax reaches 0 and 1 only by rounding, so these read "< 0.01 %" and "> 99.99 %" as well.
    """
    text = f"{100 * float(probability):.2f} %"
    return {"0.00 %": "< 0.01 %", "100.00 %": "> 99.99 %"}.get(text, text)


def exact_percent(share: float) -> str:
    """Return a share of a count in per cent: 100.00 % means all, 0.00 % means none."""
    return f"{share:.2%}".replace("%", " %") if share in (0, 1) else percent(share)
