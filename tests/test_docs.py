"""The documentation: its links lead somewhere, and its numbers are those the code computes.

Oracles: the files linked to, and Python itself, which runs every example in docs/.

A link into the code is written [`name`](../handcnn/loss.py), where `name` is the full name of a
class, method, function or constant of that file (`Conv2D.forward`), or a piece of code that stands
in it. It names no line, so that it stays right when lines move.
"""

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
EXAMPLES = [ROOT / "docs" / name for name in ("backprop.md", "folding.md")]
# Code in fences is taken as a whole, so that f[x](y) in it is not mistaken for a link.
LINK = re.compile(r"(?s:```.*?```)|(?:`([^`]+)`)?\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def check_links(page: Path) -> None:
    """Refuse a link of `page` that leads nowhere."""
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
    source = file.read_text(encoding="utf-8")
    return (
        file.name == name.split("/")[-1]
        or name in {*definitions(ast.parse(source))}
        or name in source
    )


def definitions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{prefix}{node.name}.")


def headings(file: Path) -> list[str]:
    """Return the anchors that GitHub makes of a page's headings."""
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
        ("[`C.f`](code.py#L4)", "page.md: name code in code.py, not the line L4"),
    ],
)
def test_broken_links_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(AssertionError, match=f"^{re.escape(message)}"):
        check_links(write_example(tmp_path, line))


def test_good_links_pass(tmp_path: Path) -> None:
    line = "## A, b\n[`C.f`](code.py) ![`return 1`](code.py) [a](#a-b) [w](https://w)"
    check_links(write_example(tmp_path, line))


def write_example(folder: Path, text: str) -> Path:
    (folder / "code.py").write_text(
        "def f():\n    return 1\nclass C:\n    def f():\n        return 2\n"
    )
    (folder / "page.md").write_text(text)
    return folder / "page.md"


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.name)
def test_examples_are_true(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    starts = re.findall(r"^```python\n(....)", text, re.MULTILINE)
    assert set(starts) == {">>> "}  # a block without prompts would not be run
    unfenced = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)  # a fence is not expected output
    examples = doctest.DocTestParser().get_doctest(unfenced, {}, page.stem, str(page), 0)
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert not report, "".join(report)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["y_pred"].shape == (64, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.npz"]
