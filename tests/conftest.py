"""Settings for all tests: one BLAS thread, no deadline for Hypothesis, normal Ctrl-C.

The tests run on loaded machines. There, BLAS threads that spin while they wait for a core make a
small matrix product a hundred times slower. One thread also gives the same sums in every run. A
slow example says nothing about the code, so there is no deadline. A shell starts background jobs
with SIGINT ignored, and every process that a test starts would inherit that.
"""

import signal
from pathlib import Path

import damaged_files
import pytest
from builders import set_blas_threads
from hypothesis import settings
from training_processes import OPTIONS

settings.register_profile("handcnn", deadline=None, print_blob=True)
settings.load_profile("handcnn")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=10, metavar="N", help="kill N trainings at random (default 10)"
    )
    parser.addoption(
        "--damages",
        type=int,
        default=200,
        metavar="N",
        help="damage N files in each test (default 200)",
    )
    parser.addoption(
        "--slow", action="store_true", help="also run the tests that are marked as slow"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow; make check runs it, or --slow"))


def pytest_configure(config: pytest.Config) -> None:
    damaged_files.number_of_files = config.getoption("--damages")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run trained by train.py in this process."""
    import train

    outputs = tmp_path_factory.mktemp("finished")
    assert train.main([*OPTIONS, "--output-dir", str(outputs)]) == 0
    (folder,) = outputs.iterdir()
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_blas_thread() -> None:
    set_blas_threads(1)
