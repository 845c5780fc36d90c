"""The data: small grey images in, batches of (N, 1, 28, 28) out.

    load_dataset    MNIST and its like by name, or one's own by path: training, validation, test
    Batches         shuffled float batches with one-hot labels, made as they are needed

One file a question:

    catalogue       what has a name, and what is known of it
    dataset         which rows train, validate and test, and what replaces MNIST
    published       is it what was published? And the fast cache
    openml, fetch   the wait for a download; the download, in a process of its own
    download_cache  scikit-learn's own cache, looked at before scikit-learn does
    digits          the small set that is always there
    own             one's own images; keras, idx and picture_folder read their three forms
    batches         from bytes to what the network eats
"""

from data.batches import Batches, one_hot
from data.dataset import TRAINING_IMAGES, Dataset, Split, load_dataset

__all__ = ["TRAINING_IMAGES", "Batches", "Dataset", "Split", "load_dataset", "one_hot"]
