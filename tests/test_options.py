"""Bad options: one sentence, exit code 2, before anything has happened.

Oracle: the sentence itself, which names the option, the value and what is allowed; and the file
system, where nothing may have appeared.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import predict
import train

ROOT = Path(__file__).parent.parent
HUGE = "9" * 400
LONG = "a" * 5000
NAMES = "auto, mnist, digits, fashion-mnist, kuzushiji-mnist"
NO_NUMBERS = ("", " ", "x", "1x", "nan", "NaN", "-nan", "inf", "-inf", "1,5", "0x10", "None")

# option: what the sentence says is allowed, and the values that are not
NUMBERS = {
    "--epochs": (
        "is not a whole number from 1 to 10,000",
        ("0", "-1", "1.5", "1e3", "1_000", " 5", "+5", "٣", "10001", HUGE, "-" + HUGE),
    ),
    **dict.fromkeys(
        ("--batch-size", "--limit"),
        (
            "is not a whole number from 1 to 1,000,000",
            ("0", "-1", "1.5", "1e3", "1_000", " 5", "+5", "٣", "1000001", HUGE, "-" + HUGE),
        ),
    ),
    "--seed": (
        "is not a whole number from 0 to 4,294,967,295",
        ("-1", "0.5", "1e3", "4294967296", HUGE),
    ),
    "--threads": (
        "is not a whole number from 1 to 256",
        ("0", "-1", "-1e5", "257", "1.0", HUGE),
    ),
    "--learning-rate": (
        "is not a number above 0 and at most 1000",
        (
            *("0", "-0.0", "-0.1", "-.5", "-1e-3", "1e-400", "1000.1", "1e400", "-1e400", HUGE),
            *("٣", " 5", "5 ", "1_000", "1e", ".", "1e1_0"),
        ),
    ),
    "--average": (
        "is not a number of at least 0 and below 1",
        ("1", "-0.1", "1.0", "0,9", "1e400", HUGE),
    ),
    "--target-accuracy": (
        "is not a number above 0 and at most 100",
        ("0", "-1", "100.01", "1e400", "97%", HUGE),
    ),
}
BAD = [
    *(
        (option, value, allowed)
        for option, (allowed, values) in NUMBERS.items()
        for value in (*values, *NO_NUMBERS)
    ),
    *(
        ("--dataset", value, f"is not one of {NAMES}, and no file or folder")
        for value in ("", "MNIST", "cifar", "0", "-1", "nan", LONG, "two\nlines")
    ),
    *(
        (option, "other", f"is not one of {names}")
        for option, names in (
            ("--network", "documented, lenet, deep"),
            ("--schedule", "constant, one-cycle, cosine"),
            ("--augment", "none, shift, distort"),
        )
    ),
    *(
        ("--name", value, "is not a name of at most 100 letters, digits, '.', '_' and '-'")
        for value in ("", "a b", "../up", "/root", "a/b", "\n", "é", "x" * 101, "nul\0")
    ),
    *(
        (option, value, allowed)
        for option in ("--output-dir", "--data-home", "--resume")
        for value, allowed in (
            ("", "is not a folder"),
            ("FILE", "is not a folder"),
            ("FILE/below", "is not a path to use: Not a directory"),
            (LONG, "is not a path to use: File name too long"),
            ("nul\0", "is not a path to use: "),
        )
    ),
]
CONTRADICTIONS = [
    (
        ["--limit", "1251", "--dataset", "digits"],
        "--limit: 1251 is more than the 1,250 training images",
    ),
    (["--limit", "55001"], "--limit: 55001 is more than the 55,000 training images"),
    (
        ["--limit", "55001", "--dataset", "mnist"],
        "--limit: 55001 is more than the 55,000 training images",
    ),
    (
        ["--resume", "latest", "--name", "new"],
        "--name: not allowed with argument --resume",
    ),
    (
        ["--resume", "one/run", "--output-dir", "two"],
        "--output-dir: 'two' cannot be given with --resume one/run, which stays where it is; "
        "it goes with --resume latest only",
    ),
    (["--epoch", "3"], "unrecognized arguments: --epoch 3"),  # no abbreviations
    (["3"], "unrecognized arguments: 3"),
    (["two\nlines"], "unrecognized arguments: two lines"),
    (["\x1b[2J"], "unrecognized arguments: \\x1b[2J"),
    (["--quiet=1"], "--quiet: ignored explicit argument '1'"),
    (["--epochs=--"], "--epochs: '--' is not a value"),  # argparse does not check it
    (["--epochs", "--"], "--epochs: expected one argument"),
    (["--epochs"], "--epochs: expected one argument"),
    (["--epochs", "--quiet"], "--epochs: expected one argument"),
]

Complaint = Callable[..., str]


@pytest.fixture
def complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Complaint:
    """Return a function that runs a program in an empty folder and returns its one line."""
    monkeypatch.chdir(tmp_path)
    for program in (train.train, predict.predict):  # a value that slips through is not tried out
        monkeypatch.delattr(program.__module__ + "." + program.__name__)
    (tmp_path / "FILE").write_bytes(b"")
    (tmp_path / "TEXT").write_bytes(b"not a PNG")

    def run(program: Callable[[list[str]], int], *arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as caught:
            program(list(arguments))
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert len(err) < 1000
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


def shown(value: str) -> str:
    """Return a value as the sentence shows it: quoted, and not all of it if it is very long."""
    return repr(value) if len(value) < 300 else repr(value)[:50]


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    BAD,
    ids=[f"{option} {value[:20]!a}" for option, value, _ in BAD],
)
def test_bad_values_of_train(complaint: Complaint, option: str, value: str, allowed: str) -> None:
    for spelling in ([option, value], [f"{option}={value}"]):
        line = complaint(train.main, *spelling)
        assert line.startswith(f"train.py: {option}: {shown(value)}")
        assert allowed in line
        assert line.endswith("; see train.py --help\n")


def test_every_option_of_train_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    words = capsys.readouterr().out.replace("[", " ").split("Every run")[0].split()
    options = {word.rstrip("]") for word in words if word.startswith("--")}
    assert options - {option for option, *_ in BAD} == {"--quiet"}


@pytest.mark.parametrize(("arguments", "sentence"), CONTRADICTIONS)
def test_contradictions(complaint: Complaint, arguments: list[str], sentence: str) -> None:
    line = complaint(train.main, *arguments)
    assert line == f"train.py: {sentence}; see train.py --help\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: picture"),
        (["a.png", "--weights", ""], "--weights: '' is not a file"),
        (["a.png", "--weights", "."], "--weights: '.' is not a file"),
        (
            ["a.png", "--weights", "FILE/w.npz"],
            "--weights: 'FILE/w.npz' is not a path to use: Not a directory",
        ),
        (
            ["a.png", "--weights", "none/w.npz"],
            "--weights: 'none/w.npz' is not a file in a folder that exists",
        ),
        (["a.png", "--show", ""], "--show: '' is not a file"),
        (["a.png", "--show", "."], "--show: '.' is not a file"),
        (
            ["a.png", "--show", "none/s.png"],
            "--show: 'none/s.png' is not a file in a folder that exists",
        ),
        (["a.png", "--show", "TEXT"], "--show: 'TEXT' is a file that is not a PNG"),
        (["a.png", "--show", "./a.png"], "--show: 'a.png' would overwrite what is to be read"),
        (
            ["a.png", "--show", "w.npz", "--weights", "w.npz"],
            "--show: 'w.npz' would overwrite what is to be read",
        ),
        (["a.png", "--shown", "s.png"], "unrecognized arguments: --shown s.png"),
    ],
)
def test_bad_values_of_predict(complaint: Complaint, arguments: list[str], sentence: str) -> None:
    line = complaint(predict.main, *arguments)
    assert line == f"predict.py: {sentence}; see predict.py --help\n"


@pytest.mark.parametrize("option", ["--weights", "--show"])
def test_a_path_too_long_for_predict(complaint: Complaint, option: str) -> None:
    line = complaint(predict.main, "a.png", option, LONG)
    assert line.startswith(f"predict.py: {option}: 'aaaa")
    assert "is not a path to use: File name too long" in line


@pytest.mark.parametrize(
    ("program", "arguments", "sentence"),
    [
        ("train.py", ["--epochs", "0"], "--epochs: '0' is not a whole number from 1 to 10,000"),
        ("predict.py", ["a.png", "--show", ""], "--show: '' is not a file"),
    ],
)
def test_the_programs_themselves(
    tmp_path: Path, program: str, arguments: list[str], sentence: str
) -> None:
    command = [sys.executable, str(ROOT / program), *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{program}: {sentence}; see {program} --help\n"
    assert list(tmp_path.iterdir()) == []
