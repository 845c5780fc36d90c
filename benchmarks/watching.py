"""What watching costs: the same training alone, watched, and watched by an open page, in turns.

    python -m benchmarks.watching
    python -m benchmarks.watching --networks lenet --rounds 9 --threads 1

Each round trains every network in each way for some steps and takes the time of the whole loop,
with everything that happens between the steps. The page is a process of its own that asks for news
as often as the page in the browser does. What a browser computes to draw them is not counted: it
runs on another core, or on another computer. Ratios are medians over the rounds, of times in the
same round; those of the CPU time, of all threads of the training's process, stay true on a machine
that does something else as well.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

import numpy as np

from handcnn.kernels.threads import use_threads
from handcnn.models import NETWORKS, RECIPES, Recipe
from handcnn.page import server
from handcnn.page.training_view import Scene
from handcnn.page.watching import Watch
from handcnn.preparation import Preparation
from handcnn.storage.checkpoints import no_steps
from handcnn.training import Step, train

WAYS = ("alone", "watched", "with a page")
EVERY_SECONDS = 0.5  # as the page asks
# The page: it asks for what it does not have yet, as watch.js does.
PAGE = """
import json, sys, time
from http.client import HTTPConnection
connection = HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
number = snapshot = -1
while True:
    connection.request("GET", f"/state?number={number}&snapshot={snapshot}&image=0")
    state = json.loads(connection.getresponse().read())
    number = state["number"]
    if state["snapshot"]:
        snapshot = state["snapshot"]["number"]
        print(snapshot, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def main() -> None:
    """Print a table: the time of a step, and what watching adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["documented", "lenet"])
    parser.add_argument("--seconds", type=float, default=2, help="of each training (default: 2)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(f"{'network':12}{'ms a step':>10}{'':8}" + "".join(f"{way:>14}" for way in WAYS[1:]))
    for network in options.networks:
        with use_threads(options.threads):
            time_of(network, "alone", 100)  # warms up
            steps = max(round(100 * options.seconds / time_of(network, "alone", 100)[0]), 100)
            rounds = [
                {way: time_of(network, way, steps) for way in WAYS} for _ in range(options.rounds)
            ]
        milliseconds = 1000 * median(times["alone"][0] for times in rounds) / steps
        for i, clock in enumerate(("wall", "CPU")):
            added = [median(times[w][i] / times["alone"][i] for times in rounds) for w in WAYS[1:]]
            start = f"{network:12}{milliseconds:10.2f}" if i == 0 else f"{'':22}"
            print(f"{start}{clock:>8}" + "".join(f"{ratio - 1:14.1%}" for ratio in added))


def time_of(network: str, way: str, steps: int) -> tuple[float, float]:
    """Return the seconds that some steps of a training take, in one of WAYS: wall and CPU."""
    rng = np.random.default_rng(0)
    recipe = RECIPES[network]
    net = NETWORKS[network](recipe.learning_rate, rng=rng)
    x = rng.random((recipe.batch_size, 1, 28, 28), np.float32)
    y = np.eye(10, dtype=np.float32)[rng.integers(10, size=len(x))]
    one_epoch = Recipe(1, recipe.batch_size, recipe.learning_rate / 100, "constant", "none")
    listen: Callable[[Step], None] = lambda step: None  # noqa: E731
    with ExitStack() as stack:
        if way != "alone":
            images = rng.integers(0, 256, (30, 28, 28), np.uint8)
            watch = Watch(
                net,
                Scene(
                    *(1, steps, len(x), no_steps(), 0, images, np.arange(30) % 10),
                    [*"0123456789"], Preparation("digits"), {"run": "benchmark"},
                ),
                [], lambda: None, lambda: None,
            )  # fmt: skip
            listen = watch.see_step
            listener = stack.enter_context(server.listen(None))
            stack.enter_context(server.serving(listener, "watch.html", watch.routes()))
            if way == "with a page":
                port = str(listener.getsockname()[1])
                command = [sys.executable, "-c", PAGE, port, str(EVERY_SECONDS)]
                page = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
                stack.callback(page.kill)
                assert page.stdout is not None
                page.stdout.readline()  # it has come
        start, cpu = time.perf_counter(), time.process_time()
        for event in train(net, [(x, y)] * steps, one_epoch, rng):
            if isinstance(event, Step):
                listen(event)
        return time.perf_counter() - start, time.process_time() - cpu


if __name__ == "__main__":
    main()
