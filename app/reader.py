"""Copy the weights of a finished run into the package, with a record of how they were made.

    python -m app.reader outputs/RUN        `make reader` trains the run first

`handcnn predict`, `handcnn draw` and `load_network()` use these weights where no others are given.
"""

import argparse
import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from handcnn.commands import command_line as cli
from handcnn.errors import HandcnnError
from handcnn.storage import runs
from handcnn.storage.classifiers import read_saved_network
from handcnn.storage.files import atomic_write
from handcnn.storage.networks import READER
from handcnn.text import one_line

RECORD = READER.with_suffix(".json")
MAX_BYTES = 1_000_000


def main() -> int:
    """Run the program and return its exit code."""
    return cli.run("app.reader", lambda: copy(parse_options().run))


def parse_options() -> argparse.Namespace:
    """Return the parsed options."""
    parser = cli.Parser(prog="python -m app.reader", description=__doc__)
    parser.add_argument("run", type=cli.folder, metavar="RUN", help="folder of a finished run")
    return parser.parse(None)


def copy(run: Path) -> int:
    """Copy the weights, write the record and print where they are.

    Raises:
        HandcnnError: the run is not finished, or its weights are too large.
    """
    weights = run / runs.WEIGHTS
    saved = read_saved_network(weights)
    if weights.stat().st_size > MAX_BYTES:
        raise HandcnnError(f"{one_line(weights)} has more than 1 MB; use a smaller network")
    record = record_of(json.loads((run / runs.RECORD).read_text()), weights)
    shutil.copyfile(weights, READER)
    with atomic_write(RECORD) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
    print(f"{saved} -> {READER}")
    return 0


def record_of(run: dict[str, Any], weights: Path) -> dict[str, Any]:
    """Return what `reader.json` says, from the record of a run and its weights."""
    if "test" not in run:
        raise HandcnnError(f"{one_line(weights.parent)} is not finished; resume it first")
    options, data = run["options"], run["data"]
    recipe = ("epochs", "batch_size", "learning_rate", "schedule", "augment", "seed", "threads")
    return {
        "made_by": "make reader",
        "sha256": sha256(weights.read_bytes()).hexdigest(),
        "network": options["network"],
        "recipe": {name: options[name] for name in recipe},
        "data": {name: data[name] for name in ("dataset", "source", "sizes", "sha256")},
        "test_accuracy": run["test"]["accuracy"],
        "best_epoch": run["best_epoch"],
        "versions": run["versions"],
    }


if __name__ == "__main__":
    sys.exit(main())
