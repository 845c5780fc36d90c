"""A grid search on a Dask cluster: a real scheduler and two worker processes on loopback.

Oracle: the same grid search in this process.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import killed_in_a_grid
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from handcnn import documented_network
from handcnn.estimator import CNNClassifier

pytest.importorskip("distributed", reason="Dask is not installed; get it: pip install '.[cluster]'")

from distributed import Client

from examples import grid_on_dask

ROOT = Path(__file__).parents[1]
X, y = (part[:150] for part in load_digits(return_X_y=True))
GRID = {"learning_rate": [0.0001, 0.01], "batch_size": [32, 64]}


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Client, list[subprocess.Popen[bytes]]]]:
    """Start a cluster; yield its client and the worker processes."""
    file = tmp_path / "scheduler.json"
    scheduler = ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = ["dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    with ExitStack() as stack:
        started = []
        for program, *options in (scheduler, worker, worker):
            command = [sys.executable, "-m", f"distributed.cli.{program}", *options]
            process = subprocess.Popen(
                [*command, "--scheduler-file", str(file)], env=environment, cwd=tmp_path
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process)
        client = stack.enter_context(Client(scheduler_file=str(file)))
        client.wait_for_workers(2, timeout=60)
        yield client, started[1:]


def test_a_worker_is_killed_and_nothing_is_lost(
    workers: tuple[Client, list[subprocess.Popen[bytes]]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, processes = workers
    turns = tmp_path / "turns"
    turns.mkdir()
    classifier = CNNClassifier(epochs=10, random_state=0, threads=1)
    classifier.set_params(network=partial(killed_in_a_grid.make, turns))
    found = grid_on_dask.search(client, classifier, GRID, X, y)
    assert "Done  12 out of  12" in capfd.readouterr().err
    assert sum(process.poll() is not None for process in processes) == 1

    classifier.set_params(network=documented_network)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    alone = GridSearchCV(classifier, GRID, cv=folds).fit(X, y)
    assert found.best_params_ == alone.best_params_
    scores = [name for name in alone.cv_results_ if name.endswith("test_score")]
    assert len(scores) == 3 + 3  # one per fold, then mean, deviation and rank
    for name in scores:
        np.testing.assert_array_equal(found.cv_results_[name], alone.cv_results_[name], name)
    assert len(set(alone.cv_results_["mean_test_score"])) > 1

    # The program itself, on the remaining cluster.
    monkeypatch.setattr(grid_on_dask, "load_digits", lambda return_X_y: (X, y))
    monkeypatch.setattr(grid_on_dask, "GRID", {"batch_size": [64], "learning_rate": [0.01]})
    assert grid_on_dask.search_digits(client.scheduler.address) == 0
    first, line, best = capfd.readouterr().out.splitlines()
    assert first == "workers: 1"
    assert line.endswith(" % {'batch_size': 64, 'learning_rate': 0.01}")
    assert best == "best: {'batch_size': 64, 'learning_rate': 0.01}"


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:1"])
def test_an_address_without_a_scheduler_is_refused_in_one_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["grid_on_dask", address])
    monkeypatch.setattr(grid_on_dask, "Client", lambda to, timeout: Client(to, timeout="0.5s"))
    assert grid_on_dask.main() == 1
    said = capsys.readouterr().err
    start = f"grid_on_dask: {address} is not the address of a running Dask scheduler ("
    assert said.startswith(start)
    assert said.endswith("; start one, or leave the address out\n")
    assert said.count("\n") == 1
