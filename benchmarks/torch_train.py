"""The job of `python train.py` in PyTorch, for comparison. It takes the same options.

    python -m benchmarks.torch_train --network lenet

The network, its steps and its predictions are PyTorch's. Initial weights, data, augmentation,
learning rates, the weight average and the loop over the batches are handcnn's. As in train.py, the
best weights and a checkpoint are saved after every epoch. No plots are drawn.
"""

import time
from pathlib import Path

import numpy as np
import torch

from app.options import Options, parse
from app.session import EVALUATION_BATCH
from benchmarks.pytorch import Baseline
from data import TRAINING_IMAGES, Dataset, load_dataset
from handcnn import use_threads
from handcnn.augmentation import AUGMENTATIONS
from handcnn.models import NETWORKS
from handcnn.schedule import learning_rates
from handcnn.storage import runs
from handcnn.training import WeightAverage, best_epoch, evaluate, train_epoch


def main() -> None:
    """Train a new run."""
    request = parse(None, __doc__, TRAINING_IMAGES)
    options = request.options
    dataset = load_dataset(
        options.dataset, data_home=request.data_home, seed=options.seed, limit=options.limit
    )
    torch.set_num_threads(options.threads)
    # One thread for NumPy's BLAS; otherwise PyTorch's threads would have to wait for BLAS threads.
    with use_threads(1), runs.new_run(request.outputs, dataset.name, "pytorch") as folder:
        train(folder, dataset, options)


def train(folder: Path, dataset: Dataset, options: Options) -> None:
    """Train, save the best weights, and test them."""
    rng = np.random.default_rng(options.seed)
    ours = NETWORKS[options.network](classes=len(dataset.class_names), rng=rng)
    # The faster memory format, as `python -m benchmarks` shows.
    is_small = options.network == "documented"
    order = torch.contiguous_format if is_small else torch.channels_last
    net = Baseline(ours, order)
    batches = dataset.batches("train", options.batch_size, rng)
    augment = AUGMENTATIONS[options.augment]
    average = WeightAverage(net.parameters(), options.average)

    def after_step(_: object) -> None:
        if options.average:
            average.update(net.parameters())

    history: list[dict[str, float]] = []
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        rates = learning_rates(
            options.schedule, options.learning_rate, epoch, options.epochs, len(batches)
        )
        augmented = ((augment(x, rng), y) for x, y in batches)
        training = train_epoch(net, augmented, after_step, rates)
        seconds = time.perf_counter() - start
        arrays = average.arrays if options.average else net.parameters()
        trained = Baseline(ours.with_parameters(arrays), order)
        validation, _ = evaluate(trained, dataset.batches("validation", EVALUATION_BATCH))
        row = {"epoch": epoch, **training._asdict(), "seconds": seconds}
        row |= {"val_loss": validation.loss, "val_accuracy": validation.accuracy}
        history.append(row)
        print(*(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        if best_epoch(history) is row:
            best = trained
            torch.save(best.model.state_dict(), folder / "weights.pt")
        state = {"net": net.model.state_dict(), "average": average.arrays, "rng": rng}
        torch.save(state, folder / "checkpoint.pt")
        runs.write_history(folder, history)

    test, _ = evaluate(best, dataset.batches("test", EVALUATION_BATCH))
    runs.write_record(folder, {"test": test._asdict()})
    print(f"test loss {test.loss:.4f}, test accuracy {test.accuracy:.2%}")


if __name__ == "__main__":
    main()
