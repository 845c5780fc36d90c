"""The documentation: links work, examples run, figures agree.

Oracles: the files linked to; Python itself, which runs every example in docs/; and for measured
figures the tables of docs/performance.md.

Links into the code are written [`name`](../handcnn/loss.py). The name is the full name of a class,
method, function or constant of that file (`Conv2D.forward`), or a piece of code from it. Links have
no line numbers, so they stay correct when lines move.

Figures have one source, docs/performance.md. Other pages quote it in two ways:

    a table row in the README's section "Results" is copied whole (bold print and links are free);
    elsewhere, an accuracy is written with its spread, `97.63 ± 0.17 %` (or `+-`), as in the table
    "Training on MNIST". If the sentence goes on to say `in 38 s`, that is the time of its row.
"""

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handcnn import load_network

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]
EXAMPLES = [ROOT / "docs" / name for name in ("backprop.md", "fused.md", "why.md")]
EXCHANGE = ROOT / "docs" / "exchange.md"
FIGURES = ROOT / "docs" / "performance.md"
QUOTING = [ROOT / name for name in ("README.md", "train.py", "docs/performance.md")]
# Fenced code is matched as a whole, so that f[x](y) in it is not taken for a link.
LINK = re.compile(r"(?s:```.*?```)|(?:`([^`]+)`)?\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
# An accuracy with its spread and, if the sentence or table row goes on with it, the time.
ACCURACY = re.compile(r"(\d+\.\d+) (?:±|\+-) (\d+\.\d+) %(?:[^.|]*\bin (\d+ (?:s|min))\b)?")


def check_links(page: Path) -> None:
    """Refuse broken links in `page`."""
    for name, target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if not (target or anchor) or ":" in target:  # fenced code, or an address on the web
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}, which does not exist"
        if file.suffix == ".md" and anchor:
            assert anchor in headings(file), f"{page.name}: {file.name} has no heading #{anchor}"
        if file.suffix == ".py":
            assert not anchor, f"{page.name}: name code in {file.name}, not the line {anchor}"
            assert not name or stands_in(name, file), f"{page.name}: {file.name} has no `{name}`"


def stands_in(name: str, file: Path) -> bool:
    """Return whether `file` defines this name, contains this code, or has this file name."""
    source = file.read_text(encoding="utf-8")
    if file.name == name.split("/")[-1]:
        return True
    if re.fullmatch(r"[\w.]+", name):  # a name must be defined, not only mentioned
        return name in definitions(ast.parse(source))
    return name in source


def definitions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
        if isinstance(node, ast.Assign):
            yield from (prefix + ast.unparse(target) for target in node.targets)
        if isinstance(node, ast.AnnAssign):
            yield prefix + ast.unparse(node.target)
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{prefix}{node.name}.")


def headings(file: Path) -> list[str]:
    """Return the anchors that GitHub creates for a page's headings."""
    titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_they_name(page: Path) -> None:
    check_links(page)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[there](nowhere.md)", "page.md links to nowhere.md, which does not exist"),
        ("[there](#nowhere)", "page.md: page.md has no heading #nowhere"),
        ("[`C.g`](code.py)", "page.md: code.py has no `C.g`"),
        ("[`return`](code.py)", "page.md: code.py has no `return`"),
        ("[`C.f`](code.py#L4)", "page.md: name code in code.py, not the line L4"),
    ],
)
def test_broken_links_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(AssertionError, match=f"^{re.escape(message)}"):
        check_links(write_example(tmp_path, line))


def test_good_links_pass(tmp_path: Path) -> None:
    line = "## A, b\n[`C.f`](code.py) ![`return 1`](code.py) [a](#a-b) [w](https://w)"
    check_links(write_example(tmp_path, line))


def check_named_tests(page: Path) -> None:
    """Refuse a page that names a test, or a case of `FAULTS`, which does not exist."""
    text = page.read_text(encoding="utf-8")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", text)) | set(re.findall(r" (\".+?\")[,; |]", text))
    defined = re.findall(r"^def (test_\w+)|^    (\".+\"): ", sources, re.MULTILINE)
    missing = names - {name for pair in defined for name in pair}
    assert not missing, f"{page.name} names {', '.join(sorted(missing))}, which is no test"


def test_the_tests_behind_each_promise_exist() -> None:
    page = ROOT / "docs" / "reliability.md"
    check_named_tests(page)
    promises = page.read_text(encoding="utf-8").split("## Promises")[1].split("\n## ")[0]
    for row in table_rows(promises):
        assert row.startswith("| if |") or re.search(r'`test_\w+`|"[^"]+"', row), f"no test: {row}"


@pytest.mark.parametrize("name", ["`test_nothing`", '"killed by nobody"'])
def test_a_promise_without_its_test_is_refused(tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"| if | then | {name} |")
    with pytest.raises(AssertionError, match=r"^page\.md names .*, which is no test"):
        check_named_tests(page)


def write_example(folder: Path, text: str) -> Path:
    (folder / "code.py").write_text(
        "def f():\n    return 1\nclass C:\n    def f():\n        return 2\n"
    )
    (folder / "page.md").write_text(text)
    return folder / "page.md"


def training_figures() -> dict[tuple[str, str], str]:
    """Return the time for each (accuracy, spread) in the table of trainings."""
    section = FIGURES.read_text(encoding="utf-8").split("## Training on MNIST\n")[1].split("\n#")[0]
    rows = re.findall(r"^\|.*\| (\S+) ± (\S+) % \| (\d+ (?:s|min)) \|$", section, re.MULTILINE)
    assert rows, f"{FIGURES.name} has no row such as | 3 | 96.66 ± 0.34 % | 7 s |"
    return {(accuracy, spread): time for accuracy, spread, time in rows}


def table_rows(text: str) -> list[str]:
    """Return the rows of all tables of a page, without bold print, links, and lines of dashes."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text.replace("**", ""))
    rows = re.findall(r"^\|.*\|$", plain, re.MULTILINE)
    return [row for row in rows if not re.fullmatch(r"[|\-: ]+", row)]


def check_training_figures(name: str, text: str) -> None:
    """Refuse an accuracy or a time that is not in the table of trainings."""
    figures = training_figures()
    for accuracy, spread, time in ACCURACY.findall(text):
        quoted = f"{name} says {accuracy} ± {spread} %"
        assert (accuracy, spread) in figures, f"{quoted}, which {FIGURES.name} does not say"
        expected = figures[accuracy, spread]
        assert time in ("", expected), f"{quoted} in {time}, not {expected}"


def check_copied_rows(name: str, text: str) -> None:
    """Refuse a table row that does not occur in docs/performance.md."""
    source = table_rows(FIGURES.read_text(encoding="utf-8"))
    for row in table_rows(text):
        assert row in source, f"{name}: {FIGURES.name} does not have the row {row}"


@pytest.mark.parametrize("page", QUOTING, ids=lambda page: page.name)
def test_training_figures_agree(page: Path) -> None:
    check_training_figures(page.name, page.read_text(encoding="utf-8"))


def test_the_results_of_the_readme_are_copied_whole() -> None:
    results = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Results\n")[1]
    results = results.split("\n## ")[0]
    assert table_rows(results)
    check_copied_rows("README.md", results)


def test_other_figures_are_refused() -> None:
    (accuracy, spread), time = next(iter(training_figures().items()))
    check_training_figures("page", f"{accuracy} +- {spread} % on five seeds,\nin {time}.")
    with pytest.raises(AssertionError, match=r"^page says 12\.34 ± 0\.56 %, which performance\.md"):
        check_training_figures("page", "| **12.34 ± 0.56 %** |")
    with pytest.raises(AssertionError, match=rf"^page says .* in 999 s, not {time}"):
        check_training_figures("page", f"{accuracy} ± {spread} %\nin 999 s")
    with pytest.raises(
        AssertionError, match=r"^page: performance\.md does not have the row \| 1 s"
    ):
        check_copied_rows("page", "|---|\n| 1 s |")


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.name)
def test_examples_are_true(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    starts = re.findall(r"^```python\n(....)", text, re.MULTILINE)
    assert set(starts) == {">>> "}  # a block without prompts would not run
    unfenced = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)  # a fence is not expected output
    examples = doctest.DocTestParser().get_doctest(unfenced, {}, page.stem, str(page), 0)
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert not report, "".join(report)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    step: dict[str, Any] = {}
    estimator: dict[str, Any] = {}
    for block, names in zip(blocks, (step, estimator), strict=True):
        exec(block, names)
    assert step["y_pred"].shape == (64, 10)
    assert estimator["classifier"].score(estimator["X_test"], estimator["y_test"]) > 0.95
    assert {path.name for path in tmp_path.iterdir()} == {"weights.npz", "digits.npz"}


def exchange_example(number: int) -> str:
    """Return an example of docs/exchange.md: 0 is for PyTorch, 1 for scikit-learn."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", EXCHANGE.read_text("utf-8"), re.S)
    assert len(blocks) == 2
    return blocks[number]


@pytest.mark.slow
def test_pytorch_computes_the_same_from_a_weights_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.chdir(tmp_path)
    net = load_network()
    net.save("weights.npz")
    names: dict[str, Any] = {}
    exec(exchange_example(0), names)
    x = np.random.default_rng(0).random((100, 1, 28, 28), np.float32)
    with torch.no_grad():
        found = names["model"](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, net.predict_proba(x), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_scikit_learn_draws_the_curves_of_a_classifier() -> None:
    names: dict[str, Any] = {}
    exec(exchange_example(1), names)
    images, losses = names["images"], names["losses"]
    means = images.test_scores.mean(axis=1)
    assert images.ax_.get_ylabel() == "Score"
    assert means[-1] > means[0]
    assert losses.ax_.get_xlabel() == "epochs"
    np.testing.assert_array_less(losses.train_scores[1:], 0)  # negated by the display itself
    assert losses.train_scores.mean(axis=1)[-1] > losses.train_scores.mean(axis=1)[0]
