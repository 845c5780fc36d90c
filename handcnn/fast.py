"""Fast training and prediction, with the same results up to rounding.

Fused: a convolution and the hidden layer behind it are one linear map, so the batch is multiplied
by one small matrix instead of passing through two layers (`handcnn.kernels.fused`). Shared: each
thread or process runs copies of the layers on its part of the images. Without this file, training
would be slower and `layers/` would be the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handcnn.kernels.fused import Geometry, fuse, is_cheaper, update_fused
from handcnn.kernels.processes import Plan, ready_processes
from handcnn.kernels.products import added, matmul, slices
from handcnn.kernels.threads import share, split, unshared
from handcnn.layers import LAYERS, Conv2D, HiddenLayer, InputLayer, Layer, is_registered
from handcnn.layers.dense import flatten
from handcnn.layers.sequence import backward, backward_parameters, copied, forward, outputs
from handcnn.loss import loss_gradient
from handcnn.types import Array

# Images per batch of a prediction. Without fusing, their windows must fit the L2 cache.
FUSED_BATCH, LITERAL_BATCH = 1000, 64

Fusable = tuple[Conv2D, HiddenLayer, list[Layer]]  # the two to fuse, and the rest
Part = tuple[Array, list[Array]]  # y_pred of some images, and their gradients


def train_step(layers: Sequence[Layer], x: Array, y: Array) -> Array:
    """Take one SGD step on a batch; return y_pred (N, K), computed before the update.

    The parameters must be writable.
    """
    if found := fusable(layers, x):
        return fused_step(x, y, *found)
    if is_registered(*layers):
        return shared_step(layers, x, y)
    y_pred = forward(layers, x)  # custom layers may not allow splitting a batch
    backward_parameters(layers, loss_gradient(y_pred, y))
    for layer in layers:
        layer.update_params()
    return y_pred


def predict_proba(layers: Sequence[Layer], x: Array) -> Array:
    """Return the probabilities (N, K) for any number of inputs."""
    if found := fusable(copied(layers), x):
        return in_batches(fused_forward(x, *found), x, slice(0, len(x)), FUSED_BATCH)

    def predict(images: slice) -> Array:
        return in_batches(lambda few: outputs(layers, few)[-1], x, images, LITERAL_BATCH)

    if not is_registered(*layers):
        return predict(slice(0, len(x)))
    return np.concatenate(share(predict, len(x), multiplications(layers, x)))


def in_batches(forward: Callable[[Array], Array], x: Array, images: slice, size: int) -> Array:
    """Return the output of `forward` for these images, computed in batches of `size`."""
    if images.start == images.stop:  # no images: return an empty array of the right shape
        return forward(x[images])
    return np.concatenate([forward(x[few]) for few in slices(images, size)])


# Shared between threads --------------------------------------------------------------------------


def shared_step(layers: Sequence[Layer], x: Array, y: Array) -> Array:
    """Take an SGD step with the images split between threads or processes; return y_pred (N, K).

    Gradients are sums over the images, so the gradients of the parts are added up.
    """
    if len(x) != len(y):
        raise ValueError(
            f"train_step expects a row of labels for each image, got {len(x)} images and "
            f"{len(y)} rows"
        )

    work = 3 * multiplications(layers, x)  # z, dweights and dx
    parts = parts_from_processes(layers, x, y, work) or parts_from_threads(layers, x, y, work)
    y_preds, gradients = zip(*parts, strict=True)
    copies = copied(layers)
    sums = map(added, zip(*gradients, strict=True))
    for (layer, name), gradient in zip(parameter_names(copies), sums, strict=True):
        setattr(layer, f"d{name}", gradient)
    for layer in copies:
        layer.update_params()
    return np.concatenate(y_preds)


def parts_from_threads(layers: Sequence[Layer], x: Array, y: Array, work: int) -> list[Part]:
    """Return the parts of a step, computed in threads."""
    return share(lambda images: part_of_step(layers, x[images], y[images]), len(x), work)


def part_of_step(layers: Sequence[Layer], x: Array, y: Array) -> Part:
    """Return y_pred of these images, and the gradients of all parameters."""
    copies = copied(layers)
    y_pred = forward(copies, x)
    backward_parameters(copies, loss_gradient(y_pred, y))
    return y_pred, [gradient for layer in copies for gradient in layer.gradients().values()]


def multiplications(layers: Sequence[Layer], x: Array) -> int:
    """Return roughly how many multiplications the forward pass of a batch takes."""
    shape, of_one_image = x.shape[1:], 0
    try:
        for layer in layers:
            shape = layer.output_shape(shape)
            of_one_image += layer.multiplications(shape)
    except ValueError:
        return 0  # the batch does not fit: the forward pass raises the error, with the whole shape
    return len(x) * of_one_image


# Shared between processes ------------------------------------------------------------------------


def parts_from_processes(
    layers: Sequence[Layer], x: Array, y: Array, work: int
) -> list[Part] | None:
    """Return the parts of a step, computed in processes; None if threads must do it.

    The first step of each plan is computed in threads, too. If a single bit differs, threads do all
    the work from then on. So a process that runs another handcnn, since files or settings changed
    after this one had been imported, can do no harm.
    """
    images = split(len(x), work)
    parameters = [getattr(layer, name) for layer, name in parameter_names(layers)]
    if len(images) == 1 or not can_be_sent(layers, [x, y, *parameters]):
        return None
    if (processes := ready_processes(build_part)) is None:
        return None
    others = [(number, part, part.stop - part.start) for number, part in enumerate(images[1:])]
    most = max(count for _, _, count in others)
    try:
        processes.begin(plan_of(layers, parameters, x[:most], y[:most], processes.count))
        for array, parameter in zip(processes.common, parameters, strict=True):
            array[...] = parameter
        for number, part, count in others:
            own_x, own_y, *_ = processes.own[number]
            own_x[:count], own_y[:count] = x[part], y[part]
            processes.wake(number, count)
        with unshared():
            parts = [part_of_step(layers, x[images[0]], y[images[0]])]
        for number, _, count in others:
            processes.wait_for(number)
            _, _, y_pred, *gradients = processes.own[number]
            parts.append((y_pred[:count], gradients))
    except (OSError, MemoryError):  # one of them has ended, or there is no room for their arrays
        processes.give_up()
        return None
    if not processes.is_tested:
        processes.is_tested = are_same(parts, parts_from_threads(layers, x, y, work))
        if not processes.is_tested:
            processes.give_up()
            return None
    return parts


def are_same(parts: Sequence[Part], others: Sequence[Part]) -> bool:
    """Return whether the outputs and the gradients have the same bytes."""
    return all(
        a.tobytes() == b.tobytes()
        for (y_pred, gradients), (other_y_pred, other_gradients) in zip(parts, others, strict=True)
        for a, b in zip([y_pred, *gradients], [other_y_pred, *other_gradients], strict=True)
    )


def can_be_sent(layers: Sequence[Layer], arrays: Sequence[Array]) -> bool:
    """Return whether processes would compute the same, to the last bit.

    How products are rounded can depend on the order of an array in memory. A process does not have
    the methods that were replaced on a layer, and it cannot raise what `numpy.errstate` asks for.
    It gives no warnings; this process does, for its own part.
    """
    return (
        all(type(array) is np.ndarray and array.flags.c_contiguous for array in arrays)
        and all(array.dtype.kind in "biuf" for array in arrays)
        and not any(callable(value) for layer in layers for value in vars(layer).values())
        and set(np.geterr().values()) <= {"ignore", "warn"}
    )


def plan_of(
    layers: Sequence[Layer], parameters: Sequence[Array], x: Array, y: Array, processes: int
) -> Plan:
    """Return the plan for parts like this one, with about as many images or fewer."""
    task = [
        [type(layer).__name__, {k: v for k, v in layer.config().items() if k != "learning_rate"}]
        for layer in layers
    ]
    images = 1 << (len(x) - 1).bit_length()  # few different plans for batches of different sizes
    common = [(array.shape, array.dtype.str) for array in parameters]
    own = [
        ((images, *x.shape[1:]), x.dtype.str),
        ((images, *y.shape[1:]), y.dtype.str),
        ((images, *y.shape[1:]), parameters[-1].dtype.str),  # y_pred
        *common,  # the gradients
    ]
    return Plan(task, common, own, processes)


def build_part(
    task: Sequence[tuple[str, dict[str, Any]]], parameters: Sequence[Array], own: Sequence[Array]
) -> Callable[[int], None]:
    """Return what computes a part of a step on these arrays; a process calls this."""
    layers = [LAYERS[name](**config) for name, config in task]
    for (layer, name), array in zip(parameter_names(layers), parameters, strict=True):
        setattr(layer, name, array)
    x, y, y_pred, *gradients = own

    def compute(images: int) -> None:
        y_pred[:images], found = part_of_step(layers, x[:images], y[:images])
        for array, gradient in zip(gradients, found, strict=True):
            array[...] = gradient

    return compute


def parameter_names(layers: Sequence[Layer]) -> list[tuple[Layer, str]]:
    """Return the name of every parameter with its layer."""
    return [(layer, name) for layer in layers for name in layer.parameters()]


# Fused -------------------------------------------------------------------------------------------


def fusable(layers: Sequence[Layer], x: Array) -> Fusable | None:
    """Return the convolution, the hidden layer and the rest if fusing is cheaper, else None.

    A subclass may compute something else, so it is never fused. The dense weights are reshaped
    without a copy, so they must be C-contiguous.
    """
    match [layer for layer in layers if type(layer) is not InputLayer]:
        case [Conv2D() as conv, HiddenLayer() as hidden, *rest] if is_registered(conv, hidden):
            kernels, weights = (layer.parameters()["weights"] for layer in (conv, hidden))
            has_one_dtype, in_order = weights.dtype == kernels.dtype, weights.flags.c_contiguous
            if is_cheaper(len(x), kernels) and has_one_dtype and in_order:
                return conv, hidden, rest
    return None


def fused_step(
    x: Array, y: Array, conv: Conv2D, hidden: HiddenLayer, rest: Sequence[Layer]
) -> Array:
    """Take an SGD step with the convolution and the hidden layer fused; return y_pred (N, K)."""
    x, geometry = fused_input(conv, hidden, x)  # (N, C*H*W)
    G, g = fuse(conv.weights, conv.bias, hidden.weights, geometry)
    z = matmul(x, G) + (g + hidden.bias)  # (N, M)
    y_pred = forward(rest, np.maximum(0, z))

    dout = backward(rest, loss_gradient(y_pred, y))
    dz = np.asarray(dout, z.dtype) * (z > 0)
    dG, dg = matmul(x.T, dz), dz.sum(axis=0)

    for layer in rest:
        layer.update_params()
    hidden.bias -= hidden.learning_rate * dg
    rates = conv.learning_rate, hidden.learning_rate
    update_fused(conv.weights, conv.bias, hidden.weights, dG, dg, geometry, rates)
    return y_pred


def fused_forward(
    x: Array, conv: Conv2D, hidden: HiddenLayer, rest: Sequence[Layer]
) -> Callable[[Array], Array]:
    """Return a forward pass for batches of images like `x`; the layers are fused only once."""
    _, geometry = fused_input(conv, hidden, x)
    G, g = fuse(conv.weights, conv.bias, hidden.weights, geometry)

    def fused(batch: Array) -> Array:
        z = matmul(fused_input(conv, hidden, batch)[0], G) + (g + hidden.bias)
        return forward(rest, np.maximum(0, z))

    return fused


def fused_input(conv: Conv2D, hidden: HiddenLayer, x: Array) -> tuple[Array, Geometry]:
    """Return the checked batch as rows (N, C*H*W), and the geometry of the convolution."""
    x = conv.check_input(x)
    output_shape = conv.output_shape(x.shape[1:])
    hidden.output_shape(output_shape)
    return flatten(x), Geometry(x.shape[1:], output_shape, conv.stride, conv.padding)
