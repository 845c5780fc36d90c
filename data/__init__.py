"""The data: MNIST in, batches of (N, 1, 28, 28) out.

    load_dataset    MNIST, or the digits bundled with scikit-learn: training, validation, test
    Batches         shuffled float batches with one-hot labels, made as they are needed

One file a question: `dataset` (which rows train, validate and test, and what replaces MNIST),
`mnist` (what the data must be, and the fast cache), `openml` (scikit-learn's own cache, and who
waits for a download), `fetch` (the download, in a process of its own), `digits` (the small set),
`batches`.
"""

from data.batches import Batches, one_hot
from data.dataset import TRAINING_IMAGES, Dataset, Split, load_dataset

__all__ = ["TRAINING_IMAGES", "Batches", "Dataset", "Split", "load_dataset", "one_hot"]
