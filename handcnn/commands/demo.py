"""One training step of the documented network, shown step by step.

It computes in float64, so that the gradient check can be strict. Everything else is as in
training. The exit code is 1 if a gradient is wrong.
"""

import numpy as np

from handcnn.commands import command_line as cli
from handcnn.gradient_check import check_gradients
from handcnn.kernels.threads import use_threads
from handcnn.loss import loss_function, loss_gradient
from handcnn.models import documented_network


def main(arguments: list[str] | None = None, program: str = "handcnn demo") -> int:
    """Print the step and return the exit code."""
    return cli.run(program, lambda: show_step(arguments, program))


def show_step(arguments: list[str] | None, program: str) -> int:
    """Print every part of one training step; return 0 if every check passes, else 1."""
    cli.Parser(prog=program, description=__doc__).parse(arguments)
    rng = np.random.default_rng(0)
    net = documented_network(rng=rng, dtype=np.float64)
    x = rng.random((2, 1, 28, 28))
    labels = rng.integers(10, size=2)
    y_true = np.eye(10)[labels]
    print("The documented network:\n")
    print(net)

    print(f"\n1. Forward: two random images, labels {labels[0]} and {labels[1]}\n")
    outputs = net.outputs(x)
    for layer, output in zip(net.layers, outputs, strict=True):
        print(f"   {layer!s:32} -> {output.shape}")
    y_pred = outputs[-1]
    loss = loss_function(y_pred, y_true)
    for i, label in enumerate(labels):
        guess = y_pred[i].argmax()
        print(
            f"   image {i + 1}: predicted {guess} with {100 * y_pred[i, guess]:.2f} %, "
            f"its label {label} has {100 * y_pred[i, label]:.2f} %"
        )
    print(f"   loss, the mean of -log p(label): {loss:.6f} (guessing: log 10 = {np.log(10):.6f})")

    print("\n2. Backward: from y_pred - y_true to the gradient of every parameter.")
    print("   Its slope along a random direction, compared with finite differences:\n")
    with use_threads(1):  # two images are too few to split between threads
        checks = check_gradients(net, x, y_true, rng)
    print("   parameter          numbers         by hand  by differences  relative error")
    for check in checks:
        verdict = "ok" if check.passed else "WRONG"
        print(
            f"   {check.name:14} {check.numbers:11,} {check.by_hand:15.9f} "
            f"{check.by_differences:15.9f} {check.error:15.1e}  {verdict}"
        )

    print("\n3. Update: parameter -= learning rate * gradient, with learning rate 0.001\n")
    net.backward(loss_gradient(net.forward(x), y_true))
    net.update_params()
    loss_after = loss_function(net.forward(x), y_true)
    print(f"   loss before {loss:.6f}, loss after {loss_after:.6f}")
    return 0 if all(check.passed for check in checks) and loss_after < loss else 1
