"""Trained weights: the shipped ones, those of keras.applications, and PyTorch's as NumPy arrays.

All are strict: every array is used once and every variable is set, or nothing is. Two arrays of
equal shape under each other's names cannot be noticed: compare the outputs too.
Images must then be prepared as the source prepared them (channel order, scale, mean).
"""

import io
import json
import re
from collections.abc import Callable, Mapping
from importlib import resources

import keras
import numpy as np
from keras import layers

from resnetlib import _full_sets
from resnetlib.models import MODELS

BLOCK = re.compile(r"conv(\d+)_(\d+)_(a|b|c|shortcut)_(conv|bn)")

# Keras' number of a block's part, and torchvision's number of a vgg's or alexnet's dense layers
# (dropout and ReLU count).
KERAS_PART = {"shortcut": 0, "a": 1, "b": 2, "c": 3}
TORCH_DENSE = {"vgg": (0, 3, 6), "alexnet": (1, 4, 6)}

TORCH_VARIABLE = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def trained() -> dict[str, dict]:
    """Return the cards of the shipped weights, by "network-dataset".

    A card tells network, dataset, recipe and epochs, the seed, how the last gamma of each block
    started (None: as `models.build` starts it), the accuracy on the full test set
    (test_accuracy, and that of the other seeds), the commit, the hardware and the file's SHA-256.
    """
    return json.loads((resources.files("resnetlib") / "_data/weights/cards.json").read_text())


def load_trained(model: keras.Model, dataset: str) -> None:
    """Set the weights of a model of `models.build` to the shipped ones for a data set.

    The files hold float16: the accuracy on the cards is from before that rounding.
    Errors: ValueError that names what is shipped, a file with a wrong checksum, or, as for
    `from_keras_applications`, what does not fit.
    """
    name, cards = f"{model.name}-{dataset}", trained()
    if name not in cards:
        raise ValueError(f"no trained weights {name!r}; there are {', '.join(cards)}")
    file = resources.files("resnetlib") / f"_data/weights/{name}.npz"
    content = file.read_bytes()
    _full_sets.check_sha256(str(file), content, cards[name]["sha256"], "Install resnetlib again.")
    with np.load(io.BytesIO(content)) as arrays:
        # The states of dropout's random generators are no weights.
        variables = {v.path: v for v in model.variables if "seed" not in v.path}
        _copy(variables, dict(arrays), lambda array, variable: array.astype("float32"))


def from_keras_applications(model: keras.Model, source: keras.Model) -> None:
    """Copy the weights of a keras.applications model into ours, which then gives equal logits.

    model: of `models.build`: vgg16, vgg19, resnet50, resnet101, resnet152 or xception.
    source: the same network with its classifier, its image size and its number of classes.
    Errors: ValueError that names each array without a variable, each variable without an array,
    and each pair that differs in shape; nothing is copied then.
    A bias before batch norm, which ours does not have, moves the mean by as much; a source with
    another epsilon moves the variance by the difference. Taught in chapter 18.
    """
    if not isinstance(source, keras.Model):
        raise TypeError(f"source is a keras.Model; received {type(source).__name__}")
    names = _rule(KERAS_NAMES, model)(model, source)
    arrays = {
        f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable.value)
        for layer in source.layers
        for variable in layer.weights
    }
    for layer in _weighted(model):
        theirs = names[layer.name]
        if isinstance(layer, layers.BatchNormalization) and f"{theirs}/moving_variance" in arrays:
            difference = source.get_layer(theirs).epsilon - layer.epsilon
            arrays[f"{theirs}/moving_variance"] = arrays[f"{theirs}/moving_variance"] + difference
        norm = names.get(layer.name.removesuffix("_conv") + "_bn")
        if f"{theirs}/bias" in arrays and f"{norm}/moving_mean" in arrays:
            bias = arrays.pop(f"{theirs}/bias")
            arrays[f"{norm}/moving_mean"] = arrays[f"{norm}/moving_mean"] - bias
    wanted = {
        f"{names[layer.name]}/{variable.name}": variable
        for layer in _weighted(model)
        for variable in layer.weights
    }
    _copy(wanted, arrays, lambda array, variable: array)


def from_torch(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy arrays with PyTorch's names and shapes into ours.

    model: of `models.build`, in the families vgg, alexnet (one tower) and resnet.
    arrays: name → array, such as {n: t.numpy() for n, t in module.state_dict().items()}. The names
        are torchvision's (features.0.weight, layer1.0.downsample.0.weight, fc.weight); a CIFAR
        network has its classifier as linear.weight. Kernels are (out, in, height, width), dense
        weights (out, in). Names that end in num_batches_tracked are ignored: Keras has no such
        variable.
    Errors: as for `from_keras_applications`.
    torchvision's resnet50, 101 and 152 have the stride on the 3×3 convolution. Their shapes fit
    resnet50 as well, but only resnet50_v1_5 computes what they were trained for.
    Taught in chapter 18.
    """
    names = _rule(TORCH_NAMES, model)(model)
    arrays = {
        name: np.asarray(array)
        for name, array in arrays.items()
        if not name.endswith("num_batches_tracked")
    }
    wanted = {
        f"{names[layer.name]}.{TORCH_VARIABLE[variable.name]}": variable
        for layer in _weighted(model)
        for variable in layer.weights
    }
    flattened = _flattened(model)

    def turn(array: np.ndarray, variable: keras.Variable) -> np.ndarray:
        if array.ndim == 4:
            return array.transpose(2, 3, 1, 0)
        if variable.path in flattened and array.shape == variable.shape[::-1]:
            height, width, channels = flattened[variable.path]
            pixels = array.reshape(-1, channels, height, width)
            array = pixels.transpose(0, 2, 3, 1).reshape(array.shape)
        return array.T

    _copy(wanted, arrays, turn)


def _keras_vgg(model: keras.Model, source: keras.Model) -> dict[str, str]:
    names = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    for layer in _weighted(model):
        if layer.name not in names:  # conv3_2
            names[layer.name] = "block{}_conv{}".format(*layer.name[4:].split("_"))
    return names


def _keras_resnet(model: keras.Model, source: keras.Model) -> dict[str, str]:
    names = {layer.name: layer.name for layer in _weighted(model)} | {"fc": "predictions"}
    for name in names:
        if match := BLOCK.fullmatch(name):
            stage, block, part, kind = match.groups()
            names[name] = f"conv{stage}_block{block}_{KERAS_PART[part]}_{kind}"
    return names


def _keras_xception(model: keras.Model, source: keras.Model) -> dict[str, str]:
    # Keras gave its shortcuts no names, but they come in the same order as ours.
    unnamed = [layer for layer in _weighted(source) if not layer.name.startswith("block")]
    shortcuts = {
        "conv": (layer.name for layer in unnamed if isinstance(layer, layers.Conv2D)),
        "bn": (layer.name for layer in unnamed if isinstance(layer, layers.BatchNormalization)),
    }
    names = {"fc": "predictions"}
    for layer in _weighted(model):
        if layer.name in names:
            continue
        block, part, kind = layer.name.split("_")
        if part == "shortcut":
            names[layer.name] = next(shortcuts[kind], layer.name)
        else:
            conv = f"{block}_{'conv' if block == 'block1' else 'sepconv'}{KERAS_PART[part]}"
            names[layer.name] = conv if kind == "conv" else f"{conv}_bn"
    return names


def _torch_chain(model: keras.Model) -> dict[str, str]:
    """Count as torch does: a convolution, its ReLU and a pool are a place each."""
    names, place = {}, 0
    dense = iter(TORCH_DENSE[MODELS[model.name].family])
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            names[layer.name] = f"features.{place}"
            place += 2
        elif isinstance(layer, layers.MaxPooling2D):
            place += 1
        elif isinstance(layer, layers.Dense):
            names[layer.name] = f"classifier.{next(dense)}"
    return names


def _torch_resnet(model: keras.Model) -> dict[str, str]:
    ours = [layer.name for layer in _weighted(model)]
    fc = "fc" if "conv5_1_a_conv" in ours else "linear"  # CIFAR's networks end with conv4
    names = {name: name for name in ours} | {"conv1_conv": "conv1", "conv1_bn": "bn1", "fc": fc}
    for name in ours:
        if match := BLOCK.fullmatch(name):
            stage, block, part, kind = match.groups()
            if part == "shortcut":
                inner = "downsample.0" if kind == "conv" else "downsample.1"
            else:
                inner = f"{kind}{KERAS_PART[part]}"
            names[name] = f"layer{int(stage) - 1}.{int(block) - 1}.{inner}"
    return names


# Network → a function that says the other side's name for each of our layers.
KERAS_NAMES = {
    **dict.fromkeys(("vgg16", "vgg19"), _keras_vgg),
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), _keras_resnet),
    "xception": _keras_xception,
}
TORCH_FAMILIES = {"vgg": _torch_chain, "alexnet": _torch_chain, "resnet": _torch_resnet}
TORCH_NAMES = {
    name: TORCH_FAMILIES[card.family]
    for name, card in MODELS.items()
    if card.family in TORCH_FAMILIES
}


def _rule(rules: dict[str, Callable], model: keras.Model) -> Callable:
    name = getattr(model, "name", model)
    if name not in rules:
        raise ValueError(f"model is one of models.build's: {', '.join(rules)}; received {name!r}")
    return rules[name]


def _weighted(model: keras.Model) -> list[layers.Layer]:
    return [layer for layer in model.layers if layer.weights]


def _flattened(model: keras.Model) -> dict[str, tuple[int, int, int]]:
    """Return, by its path, the first dense kernel after a flatten layer, and what was flattened."""
    found, shape = {}, None
    for layer in model.layers:
        if isinstance(layer, layers.Flatten):
            shape = tuple(layer.input.shape[1:])
        elif shape and isinstance(layer, layers.Dense):
            found[layer.kernel.path] = shape
            shape = None
    return found


def _copy(
    wanted: dict[str, keras.Variable],
    arrays: dict[str, np.ndarray],
    turn: Callable[[np.ndarray, keras.Variable], np.ndarray],
) -> None:
    """Set each variable to the array of its name, turned into our layout, if all of them fit."""
    problems, turned = [], {}
    for name, variable in wanted.items():
        side = f"variable {variable.path!r} {tuple(variable.shape)}"
        if name not in arrays:
            problems.append(f"{side} finds no array {name!r}")
            continue
        turned[name] = turn(arrays[name], variable)
        if turned[name].shape != tuple(variable.shape):
            problems.append(
                f"{side} differs from array {name!r} {arrays[name].shape}, "
                f"in Keras' layout {turned[name].shape}"
            )
    for name, array in arrays.items():
        if name not in wanted:
            problems.append(f"array {name!r} {array.shape} finds no variable")
    if problems:
        more = [f"and {len(problems) - 10} more"] if len(problems) > 10 else []
        raise ValueError("\n".join(["nothing was copied:", *problems[:10], *more]))
    for name, variable in wanted.items():
        variable.assign(turned[name])
