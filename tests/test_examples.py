"""The notebook for learners, run from top to bottom. `make smoke` runs the other examples.

Oracles: the notebook's own finite difference, compared with its derived gradient; the notebook
format as defined by nbformat, if that is installed.
"""

import io
import json
import re
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt

NOTEBOOK = Path(__file__).parents[1] / "examples" / "look_inside.ipynb"


@pytest.fixture
def notebook() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return content


def test_the_notebook_shows_what_it_says(notebook: dict[str, Any]) -> None:
    plt.switch_backend("agg")
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) as printed:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    figures = [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    assert len(figures) == 3
    images = [image for figure in figures for axes in figure.axes for image in axes.images]
    signed = [image for image in images if image.get_clim()[0] < 0]
    assert len(signed) == 2 * 8 + 1  # kernels, responses, votes
    for image in signed:
        red, _, blue, _ = image.to_rgba(np.array([image.get_clim()[1]]))[0]
        assert red > blue  # positive, as in every plot and on the page
    out = printed.getvalue()
    ((measured, derived),) = re.findall(r"measured (\S+)   derived (\S+)", out)
    assert float(measured) == pytest.approx(float(derived), rel=1e-6)
    before, after = (float(loss) for loss in re.findall(r"^loss (\S+)$", out, re.M))
    assert after < before
    *_, right = re.findall(r"right (\S+) % of the test", out)
    assert float(right) > 95
    label, answer = re.findall(r"this (\d) is read as (\d)", out)[0]
    assert label != answer
    assert names["votes"].shape == (8, 8)


def test_the_notebook_is_stored_without_output(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.skipif(not find_spec("nbformat"), reason="nbformat is not installed")
def test_the_notebook_is_valid(notebook: dict[str, Any]) -> None:
    import nbformat

    nbformat.validate(notebook)
