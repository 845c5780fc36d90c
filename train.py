"""Train a network on MNIST with hand-derived gradients.

    python train.py                            the documented network, results in outputs/
    python train.py --network lenet            two convolutions with pooling: 99 % within seconds
    python train.py --network deep             six convolutions: 99.5 % within minutes
    python train.py --epochs 3                 a short run
    python train.py --limit 5000 --epochs 3    5,000 images only, in a few seconds
    python train.py --dataset fashion-mnist    other images, or your own: see README.md
    python train.py --resume latest            continue the newest run
    python train.py --watch                    watch it learn in the browser
    python train.py --start-from RUN --dataset photos/    train a network further on your digits
    python train.py --target-accuracy 97       exit with code 1 below 97 % on the test set

Every run gets its own folder, outputs/<date-time>-<dataset>/, with the best weights, a checkpoint
after every epoch, the history and five plots. After Ctrl-C, --resume repeats the current epoch.

The default training reaches 97.64 +- 0.22 % on the test set (five seeds) in 40 s on two cores.
"""

import sys

try:
    from app.console import Console
    from app.interrupts import Interrupts
    from app.options import Request, parse
    from app.report import check_target, finished_accuracy, introduce, write_results
    from app.resuming import resumed_session
    from app.session import new_session
    from app.watching import watching
    from handcnn.commands import command_line as cli
except ModuleNotFoundError as error:
    sys.exit(f"train.py: {error.name} is not installed in this Python; use make, or see README.md")
except KeyboardInterrupt:
    sys.exit(130)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    with Interrupts() as interrupts:
        return cli.run("train.py", lambda: train(parse(arguments, __doc__), interrupts))


def train(request: Request, interrupts: Interrupts) -> int:
    """Train a run, new or resumed, and return the exit code."""
    run, console = request.resume, Console(request.quiet)
    with watching(request, interrupts) as watch:
        with new_session(request) if run is None else resumed_session(run, request) as session:
            accuracy = finished_accuracy(session)
            if accuracy is None:
                with session.protected(interrupts):
                    listen = watch.start(session)
                    introduce(session, console)
                    session.train(interrupts, console, listen)
                    accuracy = write_results(session, interrupts, console)
                    watch.show_result(accuracy)
        watch.wait()
    check_target(accuracy, request.target_accuracy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
