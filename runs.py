"""List the runs in outputs/ and compare them.

    python runs.py                              all runs, the oldest first
    python runs.py --sort validation            the best first
    python runs.py --json                       a JSON object for each
    python runs.py RUN RUN --plot both.png      their curves over one another in one picture

Validation is the accuracy of the epoch whose weights are kept. The last column shows the options
that differ from the network's recipe. To choose between runs, look at validation: choosing by the
test images would make their accuracy say less about other images.
"""

import sys

try:
    import argparse

    from app.past_runs import PastRun, all_runs, common, find_run, labels
    from app.run_table import COLUMNS, json_lines, sorted_runs, table_lines
    from handcnn.commands import command_line as cli
    from handcnn.commands.hints import train_command
    from handcnn.errors import HandcnnError
    from handcnn.storage import runs
    from handcnn.text import one_line
except ModuleNotFoundError as error:
    sys.exit(f"runs.py: {error.name} is not installed in this Python; use make, or see README.md")
except KeyboardInterrupt:
    sys.exit(130)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    return cli.run("runs.py", lambda: show(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed options; exit with code 2 if they are not valid."""
    parser = cli.Parser("runs.py", __doc__)
    parser.add_argument(
        "runs", nargs="*", type=cli.folder, metavar="RUN", help="folder of a run, or its name"
    )
    for flag, convert, metavar, help in (
        ("--sort", cli.one_of(*COLUMNS), "COLUMN", f"order by one of {', '.join(COLUMNS)}"),
        ("--plot", cli.png, "FILE", "draw the curves of the runs that are named as a PNG"),
        ("--output-dir", cli.folder, "FOLDER", f"folder of all runs (default: {runs.OUTPUTS})"),
    ):
        parser.add_argument(flag, type=convert, metavar=metavar, help=help)
    parser.add_argument("--json", action="store_true", help="print a JSON object for each run")
    parser.set_defaults(sort="name", output_dir=runs.OUTPUTS)
    options = parser.parse(arguments)
    if options.plot and len(options.runs) < 2:
        parser.error("--plot: name two or more runs to compare")
    return options


def show(options: argparse.Namespace) -> int:
    """Print the runs, draw the picture that is asked for, and return 0."""
    if options.runs:
        found = [find_run(name, options.output_dir) for name in options.runs]
    else:
        found = all_runs(options.output_dir)
    listed = sorted_runs(found, options.sort)
    for line in json_lines(listed) if options.json else table_lines(listed):
        print(line)
    if not found and not options.json:
        print(f"no runs in {one_line(options.output_dir)}; train one with: {train_command()}")
    if options.plot:
        draw(options, found)
    return 0


def draw(options: argparse.Namespace, found: list[PastRun]) -> None:
    """Draw the curves of the runs.

    Raises:
        HandcnnError: they cannot be drawn.
    """
    from app.evaluation import explained_drawing

    with explained_drawing("omit --plot"):
        from handcnn import plots  # matplotlib takes half a second to import

        if len(found) > plots.MAX_RUNS:
            raise HandcnnError(
                f"{len(found)} runs are too many to tell apart; name up to {plots.MAX_RUNS}"
            )
        for run in found:
            if not run.history:
                raise HandcnnError(f"{one_line(run.folder)} has no finished epoch to draw")
        curves = [
            plots.Curve(label, run.history, run.test)
            for label, run in zip(labels(found), found, strict=True)
        ]
        plots.save_figure(options.plot, plots.plot_comparison(curves, common(found)))
    if not options.json:
        print(f"plot: {one_line(options.plot)}")


if __name__ == "__main__":
    sys.exit(main())
