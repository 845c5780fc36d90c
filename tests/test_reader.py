"""The trained network that comes with the package: its record, and who uses it.

Oracles: the SHA-256 and the accuracy in the record; MNIST's test images; the digits bundled with
scikit-learn, on which it was not trained.
"""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from app import reader
from data import load_dataset
from data.catalogue import CATALOGUE
from handcnn import HandcnnError, documented_network, load_network
from handcnn.commands import predict
from handcnn.commands.weights import picture_network
from handcnn.models import network_name
from handcnn.storage import runs
from handcnn.storage.networks import READER

SEVEN = Path(__file__).parent.parent / "docs" / "seven.jpg"
RECORD = json.loads(reader.RECORD.read_text())


def test_its_bytes_are_those_in_its_record() -> None:
    content = READER.read_bytes()
    assert sha256(content).hexdigest() == RECORD["sha256"]
    assert len(content) < reader.MAX_BYTES
    assert RECORD["data"]["sha256"] == CATALOGUE["mnist"].sha256
    assert RECORD["network"] == network_name(load_network())


def test_without_a_path_it_is_loaded_and_reads_digits() -> None:
    digits = load_dataset("digits").test
    answers = load_network().predict(digits.images[:, None] / np.float32(255))
    assert np.mean(answers == digits.labels) > 0.9


@pytest.mark.mnist
def test_its_accuracy_is_that_in_its_record() -> None:
    try:
        test = load_dataset("mnist", say=lambda line: None).test
    except HandcnnError as error:
        pytest.skip(str(error))
    answers = load_network().predict(test.images[:, None] / np.float32(255))
    assert np.mean(answers == test.labels) == pytest.approx(RECORD["test_accuracy"], abs=2e-4)


def test_it_is_used_where_there_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert predict.main([str(SEVEN)]) == 0
    first, line = capsys.readouterr().out.splitlines()
    assert first.startswith("weights: those that come with handcnn (mnist, epoch ")
    assert line.split()[1] == "7"
    assert picture_network(None).preparation == ("digits", "dark")

    run = tmp_path / "outputs" / "20261130-120000-mnist"
    run.mkdir(parents=True)
    documented_network(rng=np.random.default_rng(0)).save(run / runs.WEIGHTS)
    assert picture_network(None).path == runs.OUTPUTS / run.name / runs.WEIGHTS
    assert picture_network(READER).path == READER  # given


def test_the_command_copies_a_finished_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("READER", "RECORD"):
        monkeypatch.setattr(reader, name, tmp_path / getattr(reader, name).name)
    with pytest.raises(HandcnnError, match="has more than 1 MB; use a smaller network"):
        reader.copy(finished)
    monkeypatch.setattr(reader, "MAX_BYTES", 10_000_000)
    assert reader.copy(finished) == 0
    copied, record = tmp_path / "reader.npz", json.loads((tmp_path / "reader.json").read_text())
    assert copied.read_bytes() == (finished / runs.WEIGHTS).read_bytes()
    assert sha256(copied.read_bytes()).hexdigest() == record["sha256"]
    assert record.keys() == RECORD.keys()

    unfinished = shutil.copytree(finished, tmp_path / "run")
    run = json.loads((unfinished / runs.RECORD).read_text())
    del run["test"]
    (unfinished / runs.RECORD).write_text(json.dumps(run))
    with pytest.raises(HandcnnError, match="is not finished; resume it first"):
        reader.copy(unfinished)
