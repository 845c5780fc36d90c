"""The plots of a run: two curves, the confusion matrix, the worst mistakes, the filters.

One more compares the curves of several runs.

Each `plot_*` function returns a matplotlib Figure, and `save_figure` writes one as a PNG:

    save_figure("accuracy.png", plot_accuracy(history, "MNIST", test_accuracy=0.978))

Only this package imports matplotlib, without pyplot: no window opens and no global setting changes.
The numbers behind each plot are in the other files of the run.
"""

from matplotlib.figure import Figure

from handcnn.plots.comparison import MAX_RUNS, Curve, plot_comparison
from handcnn.plots.confusion import plot_confusion_matrix
from handcnn.plots.curves import plot_accuracy, plot_loss
from handcnn.plots.distortions import plot_distortions
from handcnn.plots.figure import save_figure
from handcnn.plots.filters import plot_filters
from handcnn.plots.mistakes import plot_mistakes

__all__ = [
    "MAX_RUNS",
    "Curve",
    "Figure",
    "plot_accuracy",
    "plot_comparison",
    "plot_confusion_matrix",
    "plot_distortions",
    "plot_filters",
    "plot_loss",
    "plot_mistakes",
    "save_figure",
]
