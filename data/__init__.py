"""The data: small grey images in, batches of (N, 1, 28, 28) out.

    load_dataset     MNIST and others by name, or your own by path: training, validation, test
    load_whole       the same images undivided, to evaluate a network on all of them
    load_unlabelled  images alone, such as Kaggle's test.csv
    Dataset          the images and labels, which of them train, validate and test, their origin
    Batches          shuffled float batches with one-hot labels, made on demand

The files:

    catalogue       the data sets with a name, and the facts about each
    loading         from a name or a path to a data set, and the substitute for MNIST
    dataset         the one record of a data set, and its division into parts
    mixing          images of another data set among those for training
    batches         from bytes to the input of a network
    digits          the small set bundled with scikit-learn
    published       the comparison with the published data, and the fast cache
    openml, fetch   the wait for a download; the download, in a separate process
    download_cache  scikit-learn's own cache, checked before scikit-learn uses it
    users_images    users' own images, in the formats of the next four
    npz_file, idx, csv_table    images stored as arrays; stored_arrays checks these
    picture_folder  images stored as pictures, in a folder for each class
    progress        what a user sees meanwhile
"""

import handcnn  # noqa: F401 - first, because it says in one sentence if NumPy is missing
from data.batches import Batches, one_hot
from data.dataset import Dataset, Part
from data.loading import TRAINING_IMAGES, load_dataset, load_unlabelled, load_whole

__all__ = [
    "TRAINING_IMAGES",
    "Batches",
    "Dataset",
    "Part",
    "load_dataset",
    "load_unlabelled",
    "load_whole",
    "one_hot",
]
