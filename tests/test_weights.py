"""Copied weights give the source's logits: keras.applications, and PyTorch's forward in NumPy.

No test can see two arrays of equal shape that stand under each other's names in the file itself;
in the rules they would change the logits, because every array here is random.
"""

import os
from math import prod

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from resnetlib import models
from resnetlib.weights import from_keras_applications, from_torch

# At least one of each family at full size; the smaller ones differ in repeats only.
PARITY = {
    "vgg16": (keras.applications.VGG16, 224, 1000),
    "vgg19": (keras.applications.VGG19, 64, 10),
    "resnet50": (keras.applications.ResNet50, 224, 1000),
    "resnet101": (keras.applications.ResNet101, 64, 10),
    "resnet152": (keras.applications.ResNet152, 64, 10),
    "xception": (keras.applications.Xception, 299, 1000),
}


def draw(rng, kind, shape, fan_in):
    """Return a random array; gammas below 1, so that dozens of residual blocks stay small."""
    if kind.startswith("running_var") or kind.startswith("moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if kind == "gamma":
        return rng.uniform(0.4, 0.8, shape).astype(np.float32)
    spread = (2 / fan_in) ** 0.5 if fan_in else 0.1
    return rng.normal(0, spread, shape).astype(np.float32)


def keras_fan_in(variable):
    kernel = variable.name.endswith("kernel")
    return (
        prod(variable.shape[:2] if "depthwise" in variable.name else variable.shape[:-1]) * kernel
    )


@pytest.mark.parametrize("name", PARITY)
def test_logits_equal_those_of_keras_applications(name):
    keras.backend.clear_session()
    application, size, classes = PARITY[name]
    rng, shape = np.random.default_rng(0), (size, size, 3)
    source = application(
        weights=None, input_shape=shape, classes=classes, classifier_activation=None
    )
    for variable in source.weights:
        fan_in = keras_fan_in(variable)
        variable.assign(draw(rng, variable.name, variable.shape, fan_in))
    model = models.build(name, input_shape=shape, classes=classes)
    from_keras_applications(model, source)
    images = rng.normal(size=(2, *shape)).astype(np.float32)
    theirs, ours = (keras.ops.convert_to_numpy(network(images)) for network in (source, model))
    scale = np.abs(theirs).max()
    assert 0.1 < scale < 100
    assert np.abs(theirs[0] - theirs[1]).max() > 0.01 * scale  # the images matter
    assert np.abs(ours - theirs).max() <= 1e-5 * scale


class Torch:
    """PyTorch's layers in NumPy: images (N, C, H, W), kernels (out, in, height, width).

    An array is drawn when a layer first asks for its name, and stands in `arrays` from then on.
    """

    def __init__(self):
        self.rng, self.arrays = np.random.default_rng(0), {}

    def array(self, name, shape, kind=None, fan_in=0):
        if name not in self.arrays:
            self.arrays[name] = draw(self.rng, kind or name.split(".")[-1], shape, fan_in)
        return self.arrays[name]

    def conv(self, x, name, filters, size, stride=1, padding=0, bias=False):
        shape = (filters, x.shape[1], size, size)
        kernel = self.array(f"{name}.weight", shape, fan_in=prod(shape[1:]))
        x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
        y = np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], kernel, optimize=True)
        return y + self.array(f"{name}.bias", (filters,))[:, None, None] if bias else y

    def bn(self, x, name):
        self.arrays.setdefault(f"{name}.num_batches_tracked", np.array(7))
        shape = (x.shape[1], 1, 1)
        gamma = self.array(f"{name}.weight", x.shape[1], "gamma").reshape(shape)
        beta = self.array(f"{name}.bias", x.shape[1]).reshape(shape)
        mean = self.array(f"{name}.running_mean", x.shape[1]).reshape(shape)
        variance = self.array(f"{name}.running_var", x.shape[1]).reshape(shape)
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def linear(self, x, name, units):
        kernel = self.array(f"{name}.weight", (units, x.shape[1]), fan_in=x.shape[1])
        return x @ kernel.T + self.array(f"{name}.bias", (units,))


def relu(x):
    return np.maximum(x, 0)


def max_pool(x, size, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    return windows[:, :, ::stride, ::stride].max(axis=(4, 5))


def torch_cifar(torch, x, repeats=3, strides=(1, 2, 2)):
    """ResNet-20 with option A."""
    x = relu(torch.bn(torch.conv(x, "conv1", 16, 3, 1, 1), "bn1"))
    for stage, stride in enumerate(strides, 1):
        for block in range(repeats):
            name, s, width = f"layer{stage}.{block}", stride if block == 0 else 1, 8 << stage
            y = relu(torch.bn(torch.conv(x, f"{name}.conv1", width, 3, s, 1), f"{name}.bn1"))
            y = torch.bn(torch.conv(y, f"{name}.conv2", width, 3, 1, 1), f"{name}.bn2")
            new = (width - x.shape[1]) // 2
            x = np.pad(x[:, :, ::s, ::s], [(0, 0), (new, new), (0, 0), (0, 0)])
            x = relu(x + y)
    return torch.linear(x.mean(axis=(2, 3)), "linear", 10)


def torch_mini(torch, x):
    return torch_cifar(torch, x, 1, (2, 2, 2))


def torch_imagenet(torch, x, block, expansion, repeats):
    x = relu(torch.bn(torch.conv(x, "conv1", 64, 7, 2, 3), "bn1"))
    x = max_pool(np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]), 3, 2)  # after ReLU, 0 is as -inf
    for stage, count in enumerate(repeats, 1):
        width = 32 << stage
        for number in range(count):
            name, s = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            y = block(torch, x, name, width, s)
            if s > 1 or x.shape[1] != expansion * width:
                x = torch.conv(x, f"{name}.downsample.0", expansion * width, 1, s)
                x = torch.bn(x, f"{name}.downsample.1")
            x = relu(x + y)
    return torch.linear(x.mean(axis=(2, 3)), "fc", 10)


def torch_basic(torch, x, name, width, s):
    y = relu(torch.bn(torch.conv(x, f"{name}.conv1", width, 3, s, 1), f"{name}.bn1"))
    return torch.bn(torch.conv(y, f"{name}.conv2", width, 3, 1, 1), f"{name}.bn2")


def torch_bottleneck(torch, x, name, width, s):
    y = relu(torch.bn(torch.conv(x, f"{name}.conv1", width, 1), f"{name}.bn1"))
    y = relu(torch.bn(torch.conv(y, f"{name}.conv2", width, 3, s, 1), f"{name}.bn2"))
    return torch.bn(torch.conv(y, f"{name}.conv3", 4 * width, 1), f"{name}.bn3")


def torch_resnet18(torch, x):
    return torch_imagenet(torch, x, torch_basic, 1, (2, 2, 2, 2))


def torch_resnet50(torch, x):
    return torch_imagenet(torch, x, torch_bottleneck, 4, (3, 4, 6, 3))


def torch_vgg11(torch, x):
    pools = {0: 64, 3: 128, 6: 256, 8: 256, 11: 512, 13: 512, 16: 512, 18: 512}
    for place, filters in pools.items():  # torchvision's places, as its vgg11 prints them
        x = relu(torch.conv(x, f"features.{place}", filters, 3, 1, 1, bias=True))
        if place in (0, 3, 8, 13, 18):
            x = max_pool(x, 2, 2)
    return torch_dense(torch, x, (0, 3, 6))


def torch_alexnet(torch, x):
    rows = [(0, 64, 11, 4, 2), (3, 192, 5, 1, 2), (6, 384, 3, 1, 1), (8, 256, 3, 1, 1)]
    for place, filters, size, stride, padding in [*rows, (10, 256, 3, 1, 1)]:
        x = relu(torch.conv(x, f"features.{place}", filters, size, stride, padding, bias=True))
        if place in (0, 3, 10):
            x = max_pool(x, 3, 2)
    return torch_dense(torch, x, (1, 4, 6))


def torch_dense(torch, x, places):
    x = x.reshape(len(x), -1)  # channels first
    for place in places[:2]:
        x = relu(torch.linear(x, f"classifier.{place}", 4096))
    return torch.linear(x, f"classifier.{places[2]}", 10)


@pytest.mark.parametrize(
    ("name", "network", "shape"),
    [
        ("resnet_mini", torch_mini, (28, 28, 1)),
        ("resnet20", torch_cifar, (16, 16, 3)),
        ("resnet18", torch_resnet18, (32, 32, 3)),
        ("resnet50_v1_5", torch_resnet50, (64, 64, 3)),
        ("vgg11", torch_vgg11, (64, 96, 3)),  # flattens 2×3×512
        ("alexnet_one_tower", torch_alexnet, (95, 127, 3)),  # flattens 2×3×256
    ],
)
def test_logits_equal_pytorchs_forward(name, network, shape):
    keras.backend.clear_session()
    torch = Torch()
    images = torch.rng.normal(size=(2, *shape)).astype(np.float32)
    theirs = network(torch, images.transpose(0, 3, 1, 2))
    model = models.build(name, input_shape=shape, classes=10)
    from_torch(model, torch.arrays)
    scale = np.abs(theirs).max()
    assert 0.1 < scale < 100
    assert np.abs(theirs[0] - theirs[1]).max() > 0.01 * scale
    assert np.abs(keras.ops.convert_to_numpy(model(images)) - theirs).max() <= 1e-5 * scale


def test_torchvisions_bottlenecks_fit_resnet50_by_shape():
    torch = Torch()
    torch_resnet50(torch, np.zeros((1, 3, 32, 32), np.float32))
    model = models.build("resnet50", input_shape=(32, 32, 3), classes=10)
    from_torch(model, torch.arrays)
    kernel = torch.arrays["layer2.0.conv2.weight"]
    np.testing.assert_array_equal(
        model.get_layer("conv3_1_b_conv").get_weights()[0][1, 2], kernel[:, :, 1, 2].T
    )


@pytest.fixture(scope="module")
def mini():
    """The arrays that resnet_mini takes, and a fresh resnet_mini."""
    torch = Torch()
    torch_mini(torch, np.zeros((1, 1, 28, 28), np.float32))
    return torch.arrays, models.build("resnet_mini")


def refused(copy, model, source):
    """Return the message of the error, after making sure that no variable changed."""
    before = model.get_weights()
    with pytest.raises(ValueError, match="nothing was copied") as caught:
        copy(model, source)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    return str(caught.value)


def test_a_missing_array_names_its_variable(mini):
    arrays, model = mini
    rest = {name: a for name, a in arrays.items() if name != "layer2.0.bn1.running_var"}
    message = refused(from_torch, model, rest)
    assert "'conv3_1_a_bn/moving_variance' (32,) finds no array 'layer2.0.bn1" in message
    assert message.count("\n") == 1


def test_an_array_too_many_is_named(mini):
    arrays, model = mini
    message = refused(from_torch, model, arrays | {"layer2.0.conv3.weight": np.zeros((4, 3))})
    assert message.splitlines()[1:] == ["array 'layer2.0.conv3.weight' (4, 3) finds no variable"]


def test_a_wrong_shape_names_both_sides(mini):
    arrays, model = mini
    message = refused(from_torch, model, arrays | {"linear.weight": np.zeros((10, 65))})
    assert "'fc/kernel' (64, 10) differs from array 'linear.weight' (10, 65)" in message
    kernel = arrays["layer1.0.conv1.weight"].transpose(2, 3, 1, 0)  # Keras' order already
    message = refused(from_torch, model, arrays | {"layer1.0.conv1.weight": kernel})
    assert "(3, 3, 16, 16), in Keras' layout (16, 16, 3, 3)" in message


def test_many_mismatches_are_counted(mini):
    message = refused(from_torch, mini[1], {})
    assert message.splitlines()[-1] == f"and {len(mini[1].weights) - 10} more"


def test_another_keras_network_is_refused():
    model = models.build("resnet50", input_shape=(32, 32, 3), classes=10)
    options = {"weights": None, "input_shape": (32, 32, 3), "classifier_activation": None}
    message = refused(
        from_keras_applications, model, keras.applications.ResNet50(classes=11, **options)
    )
    assert "'fc/kernel' (2048, 10) differs from array 'predictions/kernel' (2048, 11)" in message
    message = refused(
        from_keras_applications, model, keras.applications.ResNet50V2(classes=10, **options)
    )
    assert "'conv1_bn/gamma' (64,) finds no array 'conv1_bn/gamma'" in message


def test_a_family_without_a_rule_is_refused():
    with pytest.raises(ValueError, match=r"vgg16, .*received 'se_resnet_mini'"):
        from_torch(models.build("se_resnet_mini"), {})
    with pytest.raises(ValueError, match=r"models.build's: vgg16, vgg19, .*received 'vgg_mini'"):
        from_keras_applications(models.build("vgg_mini"), models.build("lenet_mini"))
    with pytest.raises(TypeError, match=r"source is a .* received dict"):
        from_keras_applications(models.build("resnet_mini"), {})
