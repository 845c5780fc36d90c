"""The job of `python train.py` in PyTorch, for comparison. It takes the same options.

    python -m benchmarks.torch_train --network lenet

The network, its steps and its predictions are PyTorch's. Initial weights, data, augmentation,
learning rates and the loop over the batches are handcnn's. As in train.py, the best weights and a
checkpoint are saved after every epoch. No plots are drawn.
"""

from pathlib import Path

import numpy as np
import torch

from app.evaluation import EVALUATION_BATCH
from app.options import Options, parse
from app.session import load_data
from benchmarks.pytorch import Baseline
from data import Dataset
from handcnn import use_threads
from handcnn.models import NETWORKS
from handcnn.storage import runs
from handcnn.training import Epoch, best_epoch, evaluate
from handcnn.training import train as training


def main() -> None:
    """Train a new run."""
    request = parse(None, __doc__)
    options = request.options
    dataset = load_data(options, request.data_home)
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
    history: list[dict[str, float]] = []
    for event in training(net, batches, options.recipe, rng):
        if not isinstance(event, Epoch):
            continue
        validation, _ = evaluate(net, dataset.batches("validation", EVALUATION_BATCH))
        row = {"epoch": event.number, **event.metrics._asdict(), "seconds": event.seconds}
        row |= {"val_loss": validation.loss, "val_accuracy": validation.accuracy}
        history.append(row)
        print(*(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        if best_epoch(history) is row:
            best = Baseline(ours.with_parameters(net.parameters()), order)
            torch.save(best.model.state_dict(), folder / "weights.pt")
        torch.save({"net": net.model.state_dict(), "rng": rng}, folder / "checkpoint.pt")
        runs.write_history(folder, history)

    test, _ = evaluate(best, dataset.batches("test", EVALUATION_BATCH))
    runs.write_record(folder, {"test": test._asdict()})
    print(f"test loss {test.loss:.4f}, test accuracy {test.accuracy:.2%}")


if __name__ == "__main__":
    main()
