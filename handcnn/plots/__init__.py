"""The plots of a run: two curves, the confusion matrix, the worst mistakes, the filters.

Each `draw_*` function returns a matplotlib Figure, and `save_figure` writes one as a PNG:

    save_figure("accuracy.png", draw_accuracy(history, "MNIST", test_accuracy=0.978))

Only this package imports matplotlib, without pyplot: no window opens and no global setting changes.
The numbers behind each plot are in the other files of the run.
"""

from matplotlib.figure import Figure

from handcnn.plots.confusion import draw_confusion_matrix
from handcnn.plots.curves import draw_accuracy, draw_loss
from handcnn.plots.distortions import draw_distortions
from handcnn.plots.filters import draw_filters
from handcnn.plots.mistakes import draw_mistakes
from handcnn.plots.page import save_figure

__all__ = [
    "Figure",
    "draw_accuracy",
    "draw_confusion_matrix",
    "draw_distortions",
    "draw_filters",
    "draw_loss",
    "draw_mistakes",
    "save_figure",
]
