"""The documentation: its links lead somewhere, and its numbers are those the code computes.

Oracles: the files linked to, and Python itself, which runs every example in docs/.

A link to a line of code is written [`name`](../handcnn/layers.py#L1), where `name` is the full name
of a class, method or function (`Conv2D.forward`), or a piece of code that stands on one line of the
file and on no other. After moving code around, this sets all line numbers right:

    python tests/test_docs.py --fix
"""

import ast
import doctest
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [page for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")) if page.exists()]
EXAMPLES = [ROOT / "docs" / name for name in ("backprop.md", "folding.md")]
# Code in fences is taken as a whole, so that f[x](y) in it is not mistaken for a link.
LINK = re.compile(r"(?s:```.*?```)|(?:`([^`]+)`)?\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def relink(page: Path) -> str:
    """Return the text of `page` with every line number right; refuse links that lead nowhere."""

    def checked(link: re.Match[str]) -> str:
        name, target, anchor = link.groups()
        if target is None or ":" in target:  # fenced code, or an address on the web
            return link[0]
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor is None:
            return link[0]
        if file.suffix == ".md":
            assert anchor in headings(file), f"{page.name}: {file.name} has no heading #{anchor}"
            return link[0]
        return f"`{name}`]({target}#L{line_of(name, file)})"

    return LINK.sub(checked, page.read_text(encoding="utf-8"))


def line_of(name: str | None, file: Path) -> int:
    """Return the line of `file` that defines `name`, or else the only one that contains it."""
    assert name, f"a link to a line of {file.name} has to show the code there, in `backticks`"
    source = file.read_text(encoding="utf-8")
    if defined := dict(definitions(ast.parse(source))).get(name):
        return defined
    lines = [number for number, line in enumerate(source.splitlines(), 1) if name in line]
    assert len(lines) == 1, f"`{name}` stands on {len(lines)} lines of {file.name}, not on one"
    return lines[0]


def definitions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, int]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name, node.lineno
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{prefix}{node.name}.")


def headings(file: Path) -> list[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_they_name(page: Path) -> None:
    moved = [
        f"{old}\n  now {new}"
        for old, new in zip(
            page.read_text("utf-8").splitlines(), relink(page).splitlines(), strict=True
        )
        if old != new
    ]
    assert not moved, "\n".join(["python tests/test_docs.py --fix mends this:", *moved])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[there](nowhere.md)", "page.md links to nowhere.md, which does not exist"),
        ("[there](#nowhere)", "page.md: page.md has no heading #nowhere"),
        ("[`C.g`](code.py#L1)", "`C.g` stands on 0 lines of code.py, not on one"),
        ("[`return`](code.py#L1)", "`return` stands on 2 lines of code.py, not on one"),
        ("[line 1](code.py#L1)", "a link to a line of code.py has to show the code there"),
    ],
)
def test_broken_links_are_refused(tmp_path: Path, line: str, message: str) -> None:
    write_example(tmp_path, line)
    with pytest.raises(AssertionError, match=f"^{re.escape(message)}"):
        relink(tmp_path / "page.md")


def test_line_numbers_are_set_right(tmp_path: Path) -> None:
    page = write_example(
        tmp_path, "## A, b\n[`C.f`](code.py#L9) ![`return 1`](code.py#L1) [a](#a-b) [w](https://w)"
    )
    assert relink(page) == page.read_text().replace("#L9", "#L4").replace("#L1", "#L2")


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


if __name__ == "__main__":
    if sys.argv[1:] != ["--fix"]:
        sys.exit("usage: python tests/test_docs.py --fix")
    for page in PAGES:
        page.write_text(relink(page), encoding="utf-8")
