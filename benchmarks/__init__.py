"""Speed and accuracy of handcnn, compared with PyTorch and with plain loops.

    python -m benchmarks             training steps and predictions, in one process
    python -m benchmarks.record      whole trainings with train.py: accuracy, seconds, memory
    python -m benchmarks.estimators  CNNClassifier, MLPClassifier and SVC
    python -m benchmarks.robustness  accuracy on shifted and rotated images
    python -m benchmarks.numbers     numbers made of MNIST digits, apart and touching
    python -m benchmarks.drawing     the drawing page in a real browser

`cases` defines what is compared and checks that all entries compute the same, `timing` measures,
`machine` describes the computer and detects other load. The baselines are `pytorch`, `naive` (the
formula as loops) and `torch_train` (train.py in PyTorch). `judge` trains the part of the number
reader that tells digits from pieces. NOTES.md is a log of what was tried.
"""

import handcnn  # noqa: F401 - says in one sentence if NumPy is missing
