"""The job of `python train.py` in PyTorch, to be timed against it.

    python -m benchmarks.torch_train --epochs 3

The same network, initial weights, update, split, batches, evaluations and fast cache; the best
weights and a checkpoint are saved after every epoch. It has less to do than train.py: its images
are floats in memory from the start, it draws no pictures, cannot resume and checks nothing.
"""

import argparse
import csv
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.pytorch import Baseline, to_tensors
from data import load_dataset
from handcnn import documented_network

BATCH, EVALUATION_BATCH = 64, 500


def evaluate(model: Baseline, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return mean loss and accuracy."""
    logits = model.logits(images, EVALUATION_BATCH)
    accuracy = (logits.argmax(1) == labels).float().mean()
    return cross_entropy(logits, labels).item(), accuracy.item()


def main() -> None:
    """Train, save the best weights, and test them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, help="by default as many as PyTorch likes")
    parser.add_argument("--dataset", default="auto", choices=("auto", "mnist", "digits"))
    parser.add_argument("--limit", type=int, help="use only so many training images")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dataset = load_dataset(options.dataset, limit=options.limit)
    train, validation = to_tensors(*dataset.train), to_tensors(*dataset.validation)
    model = Baseline(documented_network(rng=np.random.default_rng(0)))
    folder = Path("outputs") / f"torch-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)

    columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
    history: list[tuple[float, ...]] = []
    best = -1.0
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        training = model.epoch(*train, BATCH)
        seconds = time.perf_counter() - start
        row = (epoch, *training, *evaluate(model, *validation), seconds)
        history.append(row)
        if row[4] > best:
            best = row[4]
            torch.save(model.parameters, folder / "weights.pt")
        state = {"model": model.parameters, "epoch": epoch, "rng": torch.get_rng_state()}
        torch.save(state, folder / "checkpoint.pt")
        print(*(f"{name} {value:.4g}" for name, value in zip(columns, row, strict=True)))
    with (folder / "history.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *history])

    model.parameters = torch.load(folder / "weights.pt")
    print("test loss {:.4f}, accuracy {:.2%}".format(*evaluate(model, *to_tensors(*dataset.test))))


if __name__ == "__main__":
    main()
