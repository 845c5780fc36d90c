"""How fast handcnn is, and how accurate, measured against PyTorch and against plain loops.

    python -m benchmarks             training steps and predictions, in one process
    python -m benchmarks.record      whole trainings by train.py: accuracy, seconds, memory
    python -m benchmarks.estimators  in scikit-learn, beside MLPClassifier and SVC
    python -m benchmarks.robustness  accuracy on images that are shifted or turned
    python -m benchmarks.drawing     the drawing page in a real browser

`cases` says what is compared and checks that all compute the same, `timing` takes the time,
`machine` describes the computer and notices busy neighbours. The baselines are `pytorch`, `naive`
(the formula as loops) and `torch_train` (train.py's job in PyTorch). NOTES.md logs what was tried.
"""
