"""Evaluate a saved network: its accuracy on a data set, class by class.

    python evaluate.py                                    the newest run on its own data
    python evaluate.py --weights outputs/RUN              another run, or a file
    python evaluate.py --dataset photos/ --part all       all images, not only those for a test
    python evaluate.py --plots plots/                     also draw confusion matrix and mistakes
    python evaluate.py --answers answers.csv              also save the answer for each image
    python evaluate.py --dataset test.csv --answers submission.csv    for Kaggle, without labels

With the test images of its own data, a network gets the numbers that train.py reported.
"""

import sys

try:
    import argparse

    import numpy as np

    from app.answers import write_answers
    from app.evaluation import (
        EVALUATION_BATCH,
        class_lines,
        evaluated,
        explained_drawing,
        figures,
        result_lines,
    )
    from app.evaluation_options import parse
    from app.fitting import labelled_data, unlabelled_data
    from data import Dataset
    from handcnn.commands import command_line as cli
    from handcnn.commands.weights import picture_network
    from handcnn.kernels.threads import use_threads
    from handcnn.storage.classifiers import SavedNetwork
    from handcnn.text import one_line
    from handcnn.training import Metrics, confusion_matrix
    from handcnn.types import Array
except ModuleNotFoundError as error:
    sys.exit(
        f"evaluate.py: {error.name} is not installed in this Python; use make, or see README.md"
    )
except KeyboardInterrupt:
    sys.exit(130)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    with np.errstate(all="ignore"):  # overflow shows in the loss
        return cli.run("evaluate.py", lambda: evaluate(parse(arguments, __doc__)))


def evaluate(options: argparse.Namespace) -> int:
    """Evaluate a network on the data in `options`, write what they ask for, and return 0."""
    saved = picture_network(options.weights)
    print(f"weights  {saved}", flush=True)
    unlabelled = unlabelled_data(options, saved)
    dataset = unlabelled or labelled_data(options, saved)
    batches = dataset.batches("test", EVALUATION_BATCH)
    with use_threads(options.threads):
        metrics, probabilities = evaluated(saved.net, batches, saved.path, "use other weights")
    if unlabelled:
        print(f"data     {dataset.title}: {len(probabilities):,} images without labels")
    else:
        show(options, saved, dataset, metrics, probabilities)
    if options.answers:
        have_labels = unlabelled is None
        write_answers(options.answers, probabilities, saved.class_names, have_labels=have_labels)
        print(f"answers  {one_line(options.answers)}")
    return 0


def show(
    options: argparse.Namespace,
    saved: SavedNetwork,
    dataset: Dataset,
    metrics: Metrics,
    probabilities: Array,
) -> None:
    """Print how good the answers are, class by class, and draw the plots that are asked for."""
    part, title, names = dataset.test, dataset.title, saved.class_names
    counts = confusion_matrix(part.labels, probabilities.argmax(axis=1), len(names))
    for line in (
        *result_lines(metrics, counts, title, options.part),
        "",
        *class_lines(counts, names),
    ):
        print(line)
    if options.part == "all" and saved.metadata.get("dataset") == dataset.name:
        print("\nwarning  the network was trained on some of these images, and knows them")
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        with explained_drawing("evaluate without --plots"):
            from handcnn.plots import save_figure

            for name, figure in figures(part, counts, probabilities, title, names, str(saved)):
                save_figure(options.plots / name, figure)
                print(f"plot     {one_line(options.plots / name)}")


if __name__ == "__main__":
    sys.exit(main())
