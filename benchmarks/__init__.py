"""How fast handcnn is, and against what: measured so that it cannot flatter us.

    python -m benchmarks             steps, layers, prediction, an epoch: against PyTorch
    python -m benchmarks.program     train.py and predict.py as whole processes

One file a question: `cases` (what is compared, and is it the same?), `measure` (how time is
taken), `rival` (PyTorch at its best), `naive` (the documented loops), `torch_train` (the same
program in PyTorch). NOTES.md says what was tried and did not help.
"""
