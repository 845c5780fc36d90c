"""Split a training step between processes, where threads would wait for Python's lock.

A thread that finds Python's lock taken sleeps, and needs 20 to 100 us to wake: 50 to 150 times in a
step on two threads, and far more often on four. A process has a lock of its own. The processes here
share a piece of memory with the one that trains. That one writes the inputs of their parts there,
wakes them through pipes, does the first part itself, and reads their results.

Threads do the work until the processes have started, and as soon as anything is wrong with one. The
results are the same to the last bit.
"""

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, TypeAlias, cast

import numpy as np

from handcnn.kernels.memory import CACHE_LINE, keep_freed_memory
from handcnn.kernels.threads import cores, this_pool
from handcnn.types import Array, Shape

START_AFTER = 1.0  # seconds since the first step of a block: a few steps are not worth the start
ANSWER = 8  # bytes of an answer: the number of the message
READY = 1  # the first answer, to no message
FOLDER = str(Path(__file__).resolve().parents[2])  # of handcnn
LIBRARIES = "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"

Spec: TypeAlias = tuple[Shape, str]  # the shape and the dtype of an array
# Builds a computation from a task, the common arrays and its own. The computation reads and writes
# these arrays; its argument is the number of images in them.
Build: TypeAlias = Callable[[Any, list[Array], list[Array]], Callable[[int], None]]


class Plan(NamedTuple):
    """What the processes compute, and the shapes of the arrays they use. It is sent as JSON."""

    task: Any  # for the function that builds the computation
    common: list[Spec]  # the arrays that all read
    own: list[Spec]  # the arrays that each has for itself
    processes: int  # how many

    def specs(self) -> list[Spec]:
        """Return all arrays in their order in the memory."""
        return [*self.common, *self.own * self.processes]

    def arrays(self, memory: mmap.mmap) -> tuple[list[Array], list[list[Array]]]:
        """Return the common arrays, and for each process its own."""
        found, start, n = [], 0, len(self.own)
        for shape, dtype in self.specs():
            found.append(np.ndarray(shape, dtype, memory, start))
            start += _size((shape, dtype))
        owned = found[len(self.common) :]
        return found[: len(self.common)], [owned[i * n : i * n + n] for i in range(self.processes)]


class Processes:
    """Processes that each compute one part of a step, until they are closed.

    Every message has a number, which is also the answer to it. So the answer to a step that Ctrl-C
    interrupted is never taken for that of the next one. Methods raise an OSError if a process has
    ended.
    """

    def __init__(self, count: int, build: Build) -> None:
        self.count, self.build = count, build
        self.owner = os.getpid()  # after a fork, the new process leaves them alone
        self.start_at = time.monotonic() + START_AFTER
        self.is_possible = _can_start() and count < cores()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.opened = ExitStack()  # the file and the pipes
        self.ready, self.message = 0, READY
        self.plan: Plan | None = None
        self.is_tested = False  # whether a step of this plan was compared with threads

    def are_ready(self) -> bool:
        """Return whether all have started. Once it is time, start them, but do not wait."""
        if self.owner != os.getpid() or not self.is_possible:
            return False
        if not self.workers:
            if time.monotonic() >= self.start_at:
                self._start()
            return False
        for worker in self.workers[self.ready :]:
            if _output(worker).read(ANSWER) is None:  # no answer yet
                return False
            os.set_blocking(_output(worker).fileno(), True)
            self.ready += 1
        return True

    def begin(self, plan: Plan) -> None:
        """Begin a step that follows this plan; then `common` and `own` are its arrays."""
        self.message += 1
        if plan == self.plan:
            return
        self.plan = None  # if Ctrl-C interrupts this, the next step does it again
        self.is_tested = False
        size = sum(map(_size, plan.specs()))
        self.file.write(bytes(max(0, size - self.file.tell())))  # memory that is really there
        self.file.flush()
        for number in range(self.count):
            self._send(number, {"plan": plan, "size": size, "number": self.message})
        for number in range(self.count):  # before that, it may still be writing for another plan
            self.wait_for(number)
        self.common, self.own = plan.arrays(mmap.mmap(self.file.fileno(), size))
        self.plan = plan

    def wake(self, number: int, images: int) -> None:
        """Let a process compute with so many images, which are in its arrays."""
        self._send(number, {"images": images, "number": self.message})

    def wait_for(self, number: int) -> None:
        """Wait until a process has done what this step asked it for."""
        answer = READY
        while READY <= answer < self.message:  # skips answers to steps that were interrupted
            answer = int.from_bytes(_output(self.workers[number]).read(ANSWER))
        if answer != self.message:
            raise ChildProcessError

    def give_up(self) -> None:
        """End the processes and start no others."""
        self.is_possible = False
        self.close()

    def close(self) -> None:
        """End the processes and wait for them. They have nothing to lose, so they are killed."""
        if self.owner == os.getpid():
            for worker in self.workers:
                worker.kill()
            with suppress(OSError):  # closing the file writes what did not fit before
                self.opened.close()
            self.workers = []

    def _start(self) -> None:
        try:
            self.file = self.opened.enter_context(_memory_file())
            for number in range(self.count):
                code = (
                    f"import sys; sys.path[:] = {[*sys.path, FOLDER]}; "
                    f"from {__name__} import serve; "
                    f"from {self.build.__module__} import {self.build.__name__} as build; "
                    f"serve(build, {self.file.fileno()}, {number})"
                )
                worker = subprocess.Popen(
                    [sys.executable, "-P", "-c", code],
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[self.file.fileno()],
                    start_new_session=True,  # Ctrl-C in a terminal does not reach it
                    env=os.environ | dict.fromkeys(LIBRARIES, "1"),
                )
                self.workers.append(self.opened.enter_context(worker))
                os.set_blocking(_output(worker).fileno(), False)
        except BaseException as error:
            self.give_up()
            if not isinstance(error, Exception):
                raise

    def _send(self, number: int, message: dict[str, Any]) -> None:
        cast(IO[bytes], self.workers[number].stdin).write(json.dumps(message).encode() + b"\n")


def ready_processes(build: Build) -> Processes | None:
    """Return the processes of this thread's `use_threads` block if they are ready, else None."""
    pool = this_pool()
    if pool is None:
        return None
    if pool.processes is None:
        pool.processes = Processes(pool.threads - 1, build)
    return pool.processes if pool.processes.are_ready() else None


def serve(build: Build, file: int, number: int) -> None:
    """Do what the lines of the standard input ask for, until it is closed.

    This runs in a process of its own. Its input is closed, at the latest, when the process that
    started it has ended, and those that were forked from that one. An error ends it, too, and the
    other notices.
    """
    keep_freed_memory()
    _answer(READY)
    with np.errstate(all="ignore"):
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "plan" in message:
                plan = Plan(*message["plan"])
                common, own = plan.arrays(mmap.mmap(file, message["size"]))
                compute = build(plan.task, common, own[number])
            else:
                compute(message["images"])
            _answer(message["number"])


def _can_start() -> bool:
    """Return whether processes can be started here, and whether this one survives their end.

    By default, Python ignores the signal of a broken pipe. Otherwise that signal ends this process.
    """
    if os.name != "posix" or hasattr(sys, "frozen"):
        return False
    return signal.getsignal(signal.SIGPIPE) is not signal.SIG_DFL


def _answer(number: int) -> None:
    os.write(sys.stdout.fileno(), number.to_bytes(ANSWER))


def _output(worker: subprocess.Popen[bytes]) -> IO[bytes]:
    return cast(IO[bytes], worker.stdout)


def _memory_file() -> IO[bytes]:
    """Return a new file without a name, which vanishes with the last process that has it."""
    if hasattr(os, "memfd_create"):  # the others may lie on a disk, where changes are written
        return os.fdopen(os.memfd_create("handcnn"), "w+b")
    return TemporaryFile()


def _size(spec: Spec) -> int:
    """Return how many bytes an array takes, so that the next one begins at a line of the cache."""
    shape, dtype = spec
    return -(-prod(shape) * np.dtype(dtype).itemsize // CACHE_LINE) * CACHE_LINE
