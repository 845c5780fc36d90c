"""Try all parameters of a grid, on all the cores of a Dask cluster.

    python -m examples.grid_on_dask                         the cores of this machine
    python -m examples.grid_on_dask tcp://10.0.0.5:8786     the cluster that this scheduler leads

A cluster is `dask scheduler` on one machine and, on each of the others, with handcnn installed,

    OMP_NUM_THREADS=1 dask worker tcp://10.0.0.5:8786 --nthreads 1 --nworkers 4

with as many workers as it has cores. If a machine fails, another one does its work again.
Dask is the extra `cluster`: pip install ".[cluster]".
"""

import sys
from contextlib import nullcontext
from typing import Any

import joblib
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from handcnn import HandcnnError
from handcnn.commands import command_line as cli
from handcnn.estimator import CNNClassifier
from handcnn.text import one_line
from handcnn.types import Array

GRID = {"learning_rate": [0.002, 0.004, 0.006], "batch_size": [32, 64]}
FOLDS = 3


def main() -> int:
    """Run the program and return its exit code."""
    parser = cli.Parser(prog="python -m examples.grid_on_dask", description=__doc__)
    parser.add_argument("address", nargs="?", metavar="SCHEDULER", help="such as tcp://HOST:8786")
    return cli.run("grid_on_dask", lambda: search_digits(parser.parse(None).address))


def search_digits(address: str | None) -> int:
    """Search the grid on scikit-learn's digits and print the scores; return 0."""
    X, y = load_digits(return_X_y=True)
    # Each worker computes in one thread, so that they do not fight for the cores.
    classifier = CNNClassifier(epochs=10, random_state=0, threads=1)
    leader = nullcontext(address) if address else LocalCluster(threads_per_worker=1)
    with leader as cluster, connected(cluster) as client:
        print(f"workers: {len(client.ncores())}")
        found = search(client, classifier, GRID, X.astype("float32"), y)
    for parameters, score in zip(
        found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True
    ):
        print(f"{100 * score:.2f} % {parameters}")
    print(f"best: {found.best_params_}")
    return 0


def connected(cluster: LocalCluster | str) -> Client:
    """Return a client of a cluster, given as such or by the address of its scheduler."""
    try:
        return Client(cluster, timeout="10s")
    except (OSError, ValueError) as error:  # no scheduler there, or no address
        raise HandcnnError(
            f"{one_line(cluster)} is not the address of a running Dask scheduler "
            f"({one_line(error)}); start one, or leave the address out"
        ) from error


def search(client: Client, classifier: Any, grid: dict[str, Any], X: Array, y: Array) -> Any:
    """Return the finished search over a grid; what is done of it is printed meanwhile."""
    # What only one worker has is lost with it. So X and y go to every worker, and Dask's memory
    # manager must not take the copies away. The folds are lists, which travel with each task;
    # arrays would be kept by one worker.
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(X, y)
    cv = [(train.tolist(), test.tolist()) for train, test in folds]
    client.amm.stop()
    try:
        with joblib.parallel_config("dask", client=client, scatter=[X, y], verbose=10):
            return GridSearchCV(classifier, grid, cv=cv, n_jobs=-1).fit(X, y)
    finally:
        client.amm.start()


if __name__ == "__main__":
    sys.exit(main())
