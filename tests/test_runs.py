"""runs.py: the table of runs, its order, its JSON, and the picture that compares runs.

Oracles: runs written here by hand, whose table is written here, too; lines and texts read back from
the figure; and a run that another process has locked.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_processes import ROOT

import runs as program
from app.options import Options
from app.past_runs import common, find_run, labels
from app.run_table import clock
from handcnn import plots
from handcnn.models import RECIPES
from handcnn.plots.comparison import MIN_DISTANCE, moved_apart
from handcnn.storage import runs
from handcnn.storage.checkpoints import HISTORY_COLUMNS

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Main:
    """Return a function that runs runs.py on the runs in tmp_path; it returns code and output."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = program.main(["--output-dir", str(tmp_path), *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


def write_run(
    folder: Path,
    validation: list[float],
    test: float | None = None,
    *,
    network: str = "documented",
    data: str = "mnist",
    images: int = 55_000,
    seconds: float = 10,
    **changes: Any,
) -> Path:
    """Write the two files of a run that runs.py reads."""
    folder.mkdir()
    options = Options(network=network, **asdict(RECIPES[network]) | changes)
    record: dict[str, Any] = {
        "options": asdict(options),
        "data": {"dataset": data, "sizes": {"train": images}},
    }
    if test is not None:
        record |= {"epochs": len(validation), "test": {"loss": 0.1, "accuracy": test}}
    rows = [
        dict.fromkeys(HISTORY_COLUMNS, 0.5)
        | {"epoch": i, "val_accuracy": value, "val_loss": 1 - value, "seconds": seconds}
        for i, value in enumerate(validation, start=1)
    ]
    runs.write_history(folder, rows)
    runs.write_record(folder, record)
    return folder


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    """Return four runs: finished, interrupted, finished long ago with another network, damaged."""
    first, lost = tmp_path / "20260101-000000-x", tmp_path / "20260104-000000-mnist"
    found = [
        write_run(tmp_path / "20260102-000000-mnist", [0.9, 0.97, 0.96], 0.975, epochs=3),
        write_run(tmp_path / "20260103-000000-mnist", [0.8], seconds=3723, invert=True, seed=7),
        write_run(first, [0.99] * 20, 0.5, network="lenet", data="x", epochs=20),
        write_run(lost, [0.5], 0.5),
    ]
    (lost / "run.json").write_text('{"options": \x1b[2J')
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").write_text("no run")
    return found


def test_the_table(four: list[Path], main: Main, tmp_path: Path) -> None:
    code, out, err = main()
    assert (code, err) == (0, "")
    heading = "name state network data epochs validation test time options"
    assert out.splitlines()[0].split() == heading.split()
    assert out.split("\n", 1)[1] == "\n".join(
        [
            "20260101-000000-x      finished     lenet       x       20/20     99.00 %  50.00 %"
            "     3:20  --epochs 20",
            "20260102-000000-mnist  finished     documented  mnist     3/3     97.00 %  97.50 %"
            "     0:30  --epochs 3",
            "20260103-000000-mnist  interrupted  documented  mnist    1/20     80.00 %         "
            "  1:02:03  --seed 7 --invert",
            "20260104-000000-mnist  unreadable",
            f"unreadable: {four[3]}/run.json cannot be used: it is damaged",
            "",
        ]
    )
    code, out, _ = main(four[1].name, four[0])  # by name or by path, in the order of their names
    assert [line.split()[0] for line in out.splitlines()] == ["name", four[0].name, four[1].name]


@pytest.mark.parametrize(
    ("column", "order"),
    [
        ("name", "1234"),
        ("validation", "1234"),
        ("test", "2134"),
        ("epochs", "1234"),
        ("time", "3124"),
        ("state", "1234"),
        ("network", "2314"),
        ("data", "2314"),
        ("options", "2134"),
    ],
)
def test_the_order(four: list[Path], main: Main, column: str, order: str) -> None:
    """Equal runs keep the order of their names, and what is not known comes last."""
    days = [line[7] for line in main("--sort", column)[1].splitlines()[1:5]]
    assert "".join(days) == order


def test_epochs_of_the_recipe_for_few_images_are_no_change(tmp_path: Path, main: Main) -> None:
    write_run(tmp_path / "20260101-000000-x", [0.9], epochs=100, network="lenet", images=1250)
    assert json.loads(main("--json")[1])["options"] == {}


def test_json(four: list[Path], main: Main) -> None:
    code, out, err = main("--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, err, [row["name"] for row in rows]) == (0, "", sorted(f.name for f in four))
    assert rows[1] == {
        "name": "20260102-000000-mnist",
        "state": "finished",
        "network": "documented",
        "data": "mnist",
        "options": {"epochs": 3},
        "epochs": 3,
        "of_epochs": 3,
        "best_epoch": 2,
        "validation": 0.97,
        "validation_loss": pytest.approx(0.03),
        "test": 0.975,
        "seconds": 30.0,
        "error": None,
    }
    assert rows[3]["state"] == "unreadable"
    assert "\x1b" not in out


def test_a_run_in_training_is_running(four: list[Path], main: Main, tmp_path: Path) -> None:
    new = tmp_path / "20260105-000000-mnist"
    new.mkdir()
    code = (
        "import sys, pathlib; from contextlib import ExitStack; from handcnn.storage import runs\n"
        "with ExitStack() as stack:\n"
        "    for name in sys.argv[1:]: stack.enter_context(runs.locked(pathlib.Path(name)))\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(four[1]), str(new)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        states = [json.loads(line)["state"] for line in main("--json")[1].splitlines()]
        process.communicate("")
    assert states == ["finished", "finished", "running", "unreadable", "running"]
    states = [json.loads(line)["state"] for line in main("--json")[1].splitlines()]
    assert states == ["finished", "finished", "interrupted", "unreadable", "unreadable"]
    (new / ".lock").unlink()
    assert main(new)[::2] == (
        1,
        f"runs.py: cannot read {new}/run.json: No such file or directory\n",
    )


HEADER = ",".join(HISTORY_COLUMNS) + "\n"
DAMAGES: Mapping[str, tuple[str, str]] = {
    "no JSON": ("run.json", "["),
    "nested too deeply": ("run.json", "[" * 100_000),
    "no object": ("run.json", "[1]"),
    "no options": ("run.json", "{}"),
    "other options": ("run.json", '{"options": {"a": 1}, "data": {}}'),
    "no numbers": (
        "history.csv",
        HEADER + "1,1,1,1,1,1,1,x\n",
    ),
    "infinity": ("history.csv", HEADER + "1,1,1,1,inf,1,1,1\n"),
    "another epoch": ("history.csv", HEADER + "2,1,1,1,1,1,1,1\n"),
    "other columns": ("history.csv", "a,b\n"),
    "nothing": ("history.csv", ""),
    "no text": ("history.csv", "\udcff"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_unreadable_and_the_others_are_listed(
    four: list[Path], main: Main, damage: str
) -> None:
    file, text = DAMAGES[damage]
    (four[0] / file).write_bytes(text.encode(errors="surrogateescape"))
    code, out, err = main()
    assert (code, err, out.count("finished")) == (0, "", 1)
    assert out.count("\nunreadable: ") == 2
    assert f"\nunreadable: {four[0]}/" in out


def test_no_runs(main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = main()
    assert code == 0
    assert out.splitlines()[1].startswith(f"no runs in {tmp_path}; train one with: ")
    assert program.main(["--output-dir", str(tmp_path / "none")]) == 1
    assert " does not exist; train a run first with: " in capsys.readouterr().err
    assert main("one")[::2] == (1, f"runs.py: one is not a run, here or in {tmp_path}\n")


def test_bad_options(main: Main, four: list[Path], tmp_path: Path) -> None:
    for arguments, fault in (
        (["--plot", tmp_path / "a.png"], "--plot: name two or more runs to compare"),
        (
            [*four[:2], "--plot", tmp_path / "file.txt"],
            f"--plot: '{tmp_path}/file.txt' is a file that is not a PNG",
        ),
    ):
        assert main(*arguments) == (2, "", f"runs.py: {fault}; see runs.py --help\n")
    assert (tmp_path / "file.txt").read_text() == "no run"


def test_the_picture_is_written(four: list[Path], main: Main, tmp_path: Path) -> None:
    picture = tmp_path / "both.png"
    code, out, err = main(*four[:2], "--plot", picture)
    assert (code, err) == (0, "")
    assert out.endswith(f"\nplot: {picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
    write_run(tmp_path / "20260106-000000-new", [])
    assert main(four[0], "20260106-000000-new", "--plot", picture)[2] == (
        f"runs.py: {tmp_path}/20260106-000000-new has no finished epoch to draw\n"
    )
    assert main(*four[:1] * 13, "--plot", picture)[2] == (
        "runs.py: 13 runs are too many to tell apart; name up to 12\n"
    )


def test_labels_say_what_differs(tmp_path: Path) -> None:
    def made(**options: Any) -> Any:
        name = f"run-{len(list(tmp_path.iterdir()))}"
        return find_run(write_run(tmp_path / name, [0.5], **options), tmp_path)

    slow, fast = made(learning_rate=0.0005), made()
    assert labels([slow, fast]) == ["--learning-rate 0.0005", "--learning-rate 0.001"]
    assert common([slow, fast]) == "documented, mnist"
    assert labels([made(limit=9, threads=1), made(threads=2)]) == ["--limit 9", "no --limit"]
    assert labels([made(seed=0, invert=True), made(seed=1)]) == [
        "--seed 0, --invert",
        "--seed 1, no --invert",
    ]
    other = made(network="lenet", data="x", seed=3)  # of its recipe, only the change is shown
    assert labels([fast, other]) == ["documented, mnist", "lenet, x, --seed 3"]
    assert common([fast, other]) == ""
    again = made()
    assert labels([fast, again]) == [fast.folder.name, again.folder.name]
    assert labels([slow, fast, again]) == [
        "--learning-rate 0.0005",
        f"--learning-rate 0.001, {fast.folder.name}",
        f"--learning-rate 0.001, {again.folder.name}",
    ]


def test_the_curves_are_those_of_validation() -> None:
    values = [[0.9, 0.95, 0.94], [0.8, 0.85]]
    histories = [
        [{"epoch": i, "val_accuracy": v, "val_loss": 2 - v} for i, v in enumerate(curve, start=1)]
        for curve in values
    ]
    curves = [plots.Curve(label, h) for label, h in zip(("slow", "fast"), histories, strict=True)]
    figure = plots.plot_comparison(curves, "mnist")
    accuracy, loss = figure.axes[1:]
    for axes, factor, start in ((accuracy, 100, 0), (loss, -1, 2)):
        points = [line.get_xydata() for line in axes.lines]
        lines = [np.array(xy) for xy in points if len(np.array(xy)) > 1]
        for line, curve in zip(lines, values, strict=True):
            np.testing.assert_allclose(line[:, 1], start + factor * np.array(curve))
        assert [text.get_text() for text in axes.texts] in (["A", "B"], ["B", "A"])
        marks = [np.array(xy)[0, 0] for xy in points if len(np.array(xy)) == 1]
        assert marks == [2, 2]  # the best epochs
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "2 runs compared: mnist" in texts
    assert texts.index("slow") == texts.index("A") + 1
    assert "best 95.00 % in epoch 2" in texts


@pytest.mark.parametrize("places", [[0.0], [0, 0], [0, 1, 2, 100], [5, 5, 5, 5, 30]])
def test_letters_keep_their_order_and_distance(places: list[float]) -> None:
    moved = moved_apart(np.array(places, float))
    assert (np.diff(moved) >= MIN_DISTANCE - 1).all()
    assert moved.sum() == pytest.approx(sum(places))  # none drifts away


def test_a_time_as_on_a_clock() -> None:
    assert [clock(s) for s in (0.4, 59.6, 664, 3723)] == ["0:00", "1:00", "11:04", "1:02:03"]


def test_a_list_reads_no_checkpoint_and_loads_no_slow_library(four: list[Path]) -> None:
    for folder in four:
        (folder / "checkpoint.npz").mkdir()  # reading it would fail
    code = (
        "import sys, runs; assert runs.main(sys.argv[1:]) == 0\n"
        "print(sorted({'matplotlib', 'sklearn', 'scipy', 'PIL'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "--output-dir", str(four[0].parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
