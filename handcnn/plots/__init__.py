"""The pictures of a run."""

from handcnn.plots.figures import (
    draw_accuracy,
    draw_confusion_matrix,
    draw_filters,
    draw_loss,
    draw_mistakes,
    plot_accuracy,
    plot_confusion_matrix,
    plot_filters,
    plot_loss,
    plot_mistakes,
)

__all__ = [
    "draw_accuracy",
    "draw_confusion_matrix",
    "draw_filters",
    "draw_loss",
    "draw_mistakes",
    "plot_accuracy",
    "plot_confusion_matrix",
    "plot_filters",
    "plot_loss",
    "plot_mistakes",
]
