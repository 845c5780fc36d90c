"""The data: small grey images in, batches of (N, 1, 28, 28) out.

    load_dataset    MNIST and others by name, or your own by path: training, validation, test
    Batches         shuffled float batches with one-hot labels, made on demand

The files:

    catalogue       the data sets with a name, and the facts about each
    dataset         the training, validation and test parts, and the substitute for MNIST
    published       the comparison with the published data, and the fast cache
    openml, fetch   the wait for a download; the download, in a separate process
    download_cache  scikit-learn's own cache, checked before scikit-learn uses it
    digits          the small set bundled with scikit-learn
    own             users' own images; keras, idx and picture_folder read the three formats
    batches         from bytes to the input of a network
"""

import handcnn  # noqa: F401 - first, because it says in one sentence if NumPy is missing
from data.batches import Batches, one_hot
from data.dataset import TRAINING_IMAGES, Dataset, Split, load_dataset

__all__ = ["TRAINING_IMAGES", "Batches", "Dataset", "Split", "load_dataset", "one_hot"]
