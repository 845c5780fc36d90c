"""Bad options: one sentence and exit code 2, before anything else happens.

Oracle: the sentence itself, which names the option, the value and what is allowed; and the file
system, in which nothing may be created.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import train
from app.options import Options, parse
from app.report import network_and_options
from data import TRAINING_IMAGES
from data.catalogue import CATALOGUE
from handcnn.augmentation import AUGMENTATIONS
from handcnn.commands import predict
from handcnn.models import NETWORKS, RECIPES
from handcnn.schedule import SCHEDULES

ROOT = Path(__file__).parent.parent
HUGE, LONG, NUL = "9" * 400, "a" * 5000, "nul\0"
NAMES = ", ".join(["auto", *CATALOGUE])
NO_NUMBERS = ["", " ", "x", "1x", "nan", "NaN", "-nan", "inf", "-inf", "1,5", "0x10", "None", "٣"]
NO_NUMBERS += [" 5", "5 ", "+", "-", ".", "1_000", "1e", "1e1_0", "5%", HUGE, "-" + HUGE]
NOT_WHOLE = [*NO_NUMBERS, "0.5", "1.0", "1e3", "-1e5", "+5"]
TO_A_MILLION = {"is not a whole number from 1 to 1,000,000": ["0", "-1", "1000001", *NOT_WHOLE]}
NO_FOLDER = {
    "is not a folder": ["", "FILE"],
    "cannot be used as a path: Not a directory": ["FILE/below"],
    "cannot be used as a path: File name too long": [LONG],
    "cannot be used as a path: ": [NUL],
}
# For each option: the expected message, and the values that cause it.
BAD: dict[str, dict[str, list[str]]] = {
    "--epochs": {"is not a whole number from 1 to 10,000": ["0", "-1", "10001", *NOT_WHOLE]},
    "--patience": {"is not a whole number from 1 to 10,000": ["0", "-1", "10001", *NOT_WHOLE]},
    "--batch-size": TO_A_MILLION,
    "--limit": TO_A_MILLION,
    "--seed": {"is not a whole number from 0 to 4,294,967,295": ["-1", "4294967296", *NOT_WHOLE]},
    "--threads": {"is not a whole number from 1 to 256": ["0", "-1", "257", *NOT_WHOLE]},
    "--port": {"is not a whole number from 1 to 65,535": ["0", "-1", "65536", *NOT_WHOLE]},
    "--learning-rate": {
        "is not a number above 0 and at most 1000": [
            *("0", "-0.0", "-0.1", "-.5", "-1e-3", "1e-400", "1000.1", "1e400", "-1e400"),
            *NO_NUMBERS,
        ]
    },
    "--target-accuracy": {
        "is not a number above 0 and at most 100": ["0", "-1", "100.01", "1e400", *NO_NUMBERS]
    },
    "--dataset": {
        f"is not one of {NAMES}, nor a file or folder": [
            *("", "MNIST", "cifar", "0", "-1", "nan", LONG, "two\nlines")
        ]
    },
    "--also": {
        f"is not one of {', '.join(CATALOGUE)}, nor a file or folder": ["", "MNIST", "auto", LONG]
    },
    "--start-from": {
        "is not a file": [""],
        "is a folder without weights.npz": ["."],
        "is not in an existing folder": ["none/w.npz"],
        "cannot be used as a path: Not a directory": ["FILE/w.npz"],
    },
    "--network": {f"is not one of {', '.join(NETWORKS)}": ["other"]},
    "--schedule": {f"is not one of {', '.join(SCHEDULES)}": ["other"]},
    "--augment": {f"is not one of {', '.join(AUGMENTATIONS)}": ["other"]},
    "--prepare": {"is not one of digits, whole": ["other", "Whole"]},
    "--name": {
        "is not a name of at most 100 letters, digits, '.', '_' and '-'": [
            *("", "a b", "../up", "/root", "a/b", "\n", "é", "x" * 101, NUL)
        ]
    },
    "--output-dir": NO_FOLDER,
    "--data-home": NO_FOLDER,
    "--resume": NO_FOLDER,
}
COMMAND_LINES: dict[str, list[str]] = {
    "train.py: --limit: 1251 is more than the 1,250 training images": [
        "--limit 1251 --dataset digits"
    ],
    "train.py: --limit: 55001 is more than the 55,000 training images": [
        "--limit 55001",
        "--limit 55001 --dataset mnist",
    ],
    "train.py: --name: not allowed with argument --resume": ["--resume latest --name new"],
    "train.py: --output-dir: 'two' cannot be combined with --resume one/run, which stays where it "
    "is; use it only with --resume latest": ["--resume one/run --output-dir two"],
    "train.py: --paused: is for the page of --watch, which was not given": ["--paused --port 80"],
    "train.py: --port: is for the page of --watch, which was not given": ["--port 80"],
    "train.py: --no-browser: is for the page of --watch, which was not given": ["--no-browser"],
    "train.py: --start-from: not allowed with argument --resume, which goes on from the run's own "
    "weights": ["--resume latest --start-from FILE"],
    "train.py: unrecognized arguments: --epoch 3": ["--epoch 3"],  # no abbreviations
    "train.py: unrecognized arguments: 3": ["3"],
    "train.py: unrecognized arguments: \\x1b[2J": ["\x1b[2J"],
    "train.py: --quiet: ignored explicit argument '1'": ["--quiet=1"],
    "train.py: --epochs: '--' is not a value": ["--epochs=--"],  # argparse does not check it
    "train.py: --epochs: expected one argument": ["--epochs", "--epochs --", "--epochs --quiet"],
    "predict.py: the following arguments are required: picture": [""],
    "predict.py: --show: '-x/s.png' is not in an existing folder": ["-a.png --show -x/s.png"],
    "predict.py: --weights: '.' is a folder without weights.npz": ["a.png --weights ."],
    "predict.py: --weights: '' is not a file": ["a.png --weights="],
    "predict.py: picture: '.' is a folder without pictures": ["."],
    "predict.py: picture: '*.png' is a pattern that no file matches": ["*.png", "a.png *.png"],
    "predict.py: picture: '[F]ILE?' is a pattern that no file matches": ["[F]ILE?"],
    "predict.py: --weights: 'FILE/w.npz' cannot be used as a path: Not a directory": [
        "a.png --weights FILE/w.npz"
    ],
    "predict.py: --weights: 'none/w.npz' is not in an existing folder": [
        "a.png --weights none/w.npz"
    ],
    "predict.py: --show: '' is not a file": ["a.png --show="],
    "predict.py: --show: '.' is not a file": ["a.png --show ."],
    "predict.py: --show: 'none/s.png' is not in an existing folder": ["a.png --show none/s.png"],
    "predict.py: --show: 'TEXT' is a file that is not a PNG": ["a.png --show TEXT"],
    "predict.py: --show: 'a.png' would overwrite an input file": ["a.png --show ./a.png"],
    "predict.py: --show: 'w.npz' would overwrite an input file": [
        "a.png --show w.npz --weights w.npz"
    ],
    "predict.py: unrecognized arguments: --shown s.png": ["a.png --shown s.png"],
}

Complaint = Callable[..., str]
FINE_TUNING = {"learning_rate": RECIPES["lenet"].fine_tuning().learning_rate}


@pytest.fixture
def complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Complaint:
    """Return a function that runs a program in a folder of two files and returns its one line."""
    monkeypatch.chdir(tmp_path)
    for program in (train.train, predict.predict):  # never runs, even for accepted values
        monkeypatch.setattr(program.__module__ + "." + program.__name__, None)
    (tmp_path / "FILE").write_bytes(b"")
    (tmp_path / "TEXT").write_bytes(b"not a PNG")

    def run(program: Callable[[list[str]], int], *arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            program(list(arguments))
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), len(err) < 1000) == ("", 1, True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["FILE", "TEXT"]
        return err

    return run


@pytest.mark.parametrize("option", BAD)
def test_bad_values_of_train(complaint: Complaint, option: str) -> None:
    for allowed, values in BAD[option].items():
        for value in values:
            for spelling in ([option, value], [f"{option}={value}"]):
                line = complaint(train.main, *spelling)
                if len(value) < 300 and value != NUL:
                    expected = f"train.py: {option}: {value!r} {allowed}; see train.py --help\n"
                    assert line == expected
                else:  # a very long value is shortened
                    assert line.startswith(f"train.py: {option}: {repr(value)[:50]}")
                    assert allowed in line
                    assert line.endswith("; see train.py --help\n")


def test_every_option_of_train_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    words = capsys.readouterr().out.replace("[", " ").split("Every run")[0].split()
    options = {word.rstrip("]") for word in words if word.startswith("--")}
    switches = {"--quiet", "--invert", "--transpose", "--skip-unreadable"}
    assert options - BAD.keys() == switches | {"--watch", "--paused", "--no-browser"}


@pytest.mark.parametrize("sentence", COMMAND_LINES)
def test_bad_command_lines(complaint: Complaint, sentence: str) -> None:
    name = sentence.partition(":")[0]
    program = {"train.py": train.main, "predict.py": predict.main}[name]
    for line in COMMAND_LINES[sentence]:
        found = complaint(program, *line.split())
        assert found == f"{sentence}; see {name} --help\n"


def test_auto_has_as_many_images_as_mnist(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the limit was compared with the largest data set in the catalogue."""
    monkeypatch.setitem(TRAINING_IMAGES, "letters", 100_000)
    assert complaint(train.main, "--limit", "60000") == (
        "train.py: --limit: 60000 is more than the 55,000 training images; see train.py --help\n"
    )


def test_a_path_too_long_and_one_of_two_lines(complaint: Complaint) -> None:
    for option in ("--weights", "--show"):
        line = complaint(predict.main, "a.png", option, LONG)
        assert line.startswith(f"predict.py: {option}: 'aaaa")
        assert "cannot be used as a path: File name too long" in line
    assert complaint(train.main, "two\nlines") == (
        "train.py: unrecognized arguments: two lines; see train.py --help\n"
    )


@pytest.mark.parametrize("sentence", ["train.py: --quiet: ", "predict.py: --show: '' "])
def test_the_programs_themselves(tmp_path: Path, sentence: str) -> None:
    (said,) = (key for key in COMMAND_LINES if key.startswith(sentence))
    program = said.partition(":")[0]
    command = [sys.executable, str(ROOT / program), *COMMAND_LINES[said][0].split()]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{said}; see {program} --help\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "changes", "shown"),
    [
        (55_000, {}, ""),
        (55_000, {"threads": 7, "dataset": "mnist"}, ""),
        (55_000, {"seed": 3}, " but --seed 3"),
        (55_000, {"epochs": 20, "augment": "none"}, " but --epochs 20 --augment none"),
        (55_000, {"batch_size": 32, "limit": 500}, " but --batch-size 32 --limit 500"),
        (1250, {"epochs": 100}, ""),  # at least 2,000 steps, each of at most 64 images
        (1250, {}, " but --epochs 2"),
        (1250, {"epochs": 50, "batch_size": 32}, " but --batch-size 32"),
        (55_000, {"also": "mnist"}, " but --also mnist"),
        (55_000, {"start_from": "w.npz"}, " but --learning-rate 0.0045 --start-from w.npz"),
        (55_000, {"start_from": "/a/b/run/w.npz", **FINE_TUNING}, " but --start-from run/w.npz"),
    ],
)
def test_the_plots_name_the_options_that_differ_from_the_recipe(
    images: int, changes: dict[str, Any], shown: str
) -> None:
    """20 epochs and no augmentation are the recipe of another network."""
    recipe = {"network": "lenet", **asdict(RECIPES["lenet"])}
    options = Options(**(recipe | changes))
    assert network_and_options(options, images) == f"lenet, trained by its recipe{shown}"


def test_a_tilde_is_the_home_folder_in_every_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind an equals sign, where no shell expands it. A file called ~ is ./~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "w.npz").touch()
    (tmp_path / "images").mkdir()
    request = parse(
        ["--output-dir=~/runs", "--data-home=~/data", "--dataset=~/images", "--resume=~/runs/run"],
        None,
    )
    found = (request.output_dir, request.data_home, request.resume, request.options.dataset)
    runs = tmp_path / "runs"
    assert found == (runs, tmp_path / "data", runs / "run", str(tmp_path / "images"))
    options = predict.parse_options(["~/a.png", "--weights=~/w.npz", "--show=~/s.png"], "predict")
    assert options.pictures == [tmp_path / "a.png"]
    assert (options.weights, options.show) == (tmp_path / "w.npz", tmp_path / "s.png")
    assert predict.parse_options(["./~"], "predict").pictures == [Path("~")]


def test_a_run_is_named_by_its_folder_or_by_a_file_in_it(tmp_path: Path) -> None:
    for name in ("checkpoint.npz", "weights.npz"):
        (tmp_path / name).touch()
        assert parse(["--resume", str(tmp_path / name)], None).resume == tmp_path
    options = predict.parse_options(["a.png", "--weights", str(tmp_path)], "predict")
    assert options.weights == tmp_path / "weights.npz"


def test_folders_and_patterns_are_expanded_in_natural_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell of Windows leaves them to the program. Only * and ? are special."""
    monkeypatch.chdir(tmp_path)
    for name in ("p10.png", "p9.PNG", "p[1].jpg", "notes.txt", ".hidden.png", "two/p1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def found(*pictures: str) -> list[str]:
        return [str(path) for path in predict.parse_options([*pictures], "predict").pictures]

    assert found(".") == ["p9.PNG", "p10.png", "p[1].jpg"]
    assert found("p*", "-") == ["p9.PNG", "p10.png", "p[1].jpg", "-"]
    assert found("*/*.png", "p[1].jp?", "p[2].jpg") == ["two/p1.png", "p[1].jpg", "p[2].jpg"]
    (tmp_path / "?.png").touch()
    assert found("?.png") == ["?.png"]
