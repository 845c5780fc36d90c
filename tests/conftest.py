"""What holds for every test: one BLAS thread, no deadline for drawn examples, Ctrl-C as usual.

The tests run on loaded machines. Threads that spin while they wait for a core that somebody else
has make a small matrix product a hundred times slower, and one thread makes sums come out the same
in every run. For the same reason an example that took long says nothing about the code. A shell
starts background jobs with SIGINT ignored, and every process that a test starts would inherit that.
"""

import signal
from pathlib import Path

import pytest
from builders import set_blas_threads
from forked import OPTIONS
from hypothesis import settings

settings.register_profile("handcnn", deadline=None, print_blob=True)
settings.load_profile("handcnn")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=15, metavar="N", help="kill N trainings at random (default 15)"
    )
    parser.addoption(
        "--damages", type=int, default=200, metavar="N", help="of each sort to files (default 200)"
    )


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that train.py has trained in this process."""
    import train

    outputs = tmp_path_factory.mktemp("finished")
    assert train.main([*OPTIONS, "--output-dir", str(outputs)]) == 0
    (folder,) = outputs.iterdir()
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_blas_thread() -> None:
    set_blas_threads(1)
