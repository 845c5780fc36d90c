"""The job of `python train.py` in PyTorch, written the straightforward way, to be timed against it.

    python -m benchmarks.torch_train --epochs 3

The same network, initial weights, update, split, batches, passes over validation and test images
and the same fast cache; the best weights and a checkpoint are saved after every epoch. It reads
images that are floats in memory from the start. It has less to do than train.py: there are no
pictures, no run record, no resuming, and nothing is checked.
"""

import argparse
import csv
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from data import Split, load_dataset

EVALUATION_BATCH = 500


def make_network() -> nn.Sequential:
    """Return the documented network; it ends in logits, the softmax is part of the loss."""
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.Flatten(),
        nn.Linear(32 * 28 * 28, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.01)
        else:
            nn.init.zeros_(parameter)
    return model


def to_tensors(split: Split) -> tuple[Tensor, Tensor]:
    """Return images (N, 1, 28, 28) float32 in [0, 1] and labels (N,)."""
    images = torch.from_numpy(split.images)[:, None].float().div_(255)
    return images, torch.from_numpy(split.labels).long()


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, batch: int
) -> tuple[float, float]:
    """Train on every image once, shuffled; return mean loss and accuracy."""
    total = torch.zeros(())
    correct = torch.zeros((), dtype=torch.int64)
    for chosen in torch.randperm(len(images)).split(batch):
        x, y = images[chosen], labels[chosen]
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
        correct += (logits.detach().argmax(1) == y).sum()
    return total.item() / len(images), correct.item() / len(images)


@torch.inference_mode()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return mean loss and accuracy."""
    logits = torch.cat([model(x) for x in images.split(EVALUATION_BATCH)])
    accuracy = (logits.argmax(1) == labels).float().mean()
    return nn.functional.cross_entropy(logits, labels).item(), accuracy.item()


def main() -> None:
    """Train, save the best weights, and test them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="by default as many as PyTorch likes")
    parser.add_argument("--dataset", default="auto", choices=("auto", "mnist", "digits"))
    parser.add_argument("--limit", type=int, help="use only so many training images")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/torch"))
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(options.dataset, seed=options.seed, limit=options.limit)
    train, validation = to_tensors(dataset.train), to_tensors(dataset.validation)
    model = make_network()
    optimizer = torch.optim.SGD(model.parameters(), options.learning_rate)

    history = []
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        loss, accuracy = train_epoch(model, optimizer, *train, options.batch_size)
        seconds = time.perf_counter() - start
        val_loss, val_accuracy = evaluate(model, *validation)
        if all(val_accuracy > row["val_accuracy"] for row in history):
            torch.save(model.state_dict(), options.output_dir / "weights.pt")
        history.append(
            {
                "epoch": epoch,
                "loss": loss,
                "accuracy": accuracy,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "seconds": seconds,
            }
        )
        state = {"model": model.state_dict(), "epoch": epoch, "rng": torch.get_rng_state()}
        torch.save(state, options.output_dir / "checkpoint.pt")
        print(
            f"{epoch:4}/{options.epochs}  loss {loss:.4f}  accuracy {100 * accuracy:.2f} %  "
            f"val loss {val_loss:.4f}  val accuracy {100 * val_accuracy:.2f} %  {seconds:.2f} s",
            flush=True,
        )
    with (options.output_dir / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)

    model.load_state_dict(torch.load(options.output_dir / "weights.pt", weights_only=True))
    loss, accuracy = evaluate(model, *to_tensors(dataset.test))
    print(f"test loss {loss:.4f}, test accuracy {100 * accuracy:.2f} %")


if __name__ == "__main__":
    main()
