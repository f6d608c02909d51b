"""The layers of LeNet-5, AlexNet, VGG and GoogLeNet that Keras lacks, against NumPy and by hand."""

import importlib
import math

import keras
import numpy as np
import pytest
from keras import layers

from resnetlib import models, numpy_ops
from resnetlib.blocks import (
    RBF,
    GroupedConv2D,
    LocalResponseNormalization,
    PartialConv2D,
    TrainableSubsampling,
    conv_relu,
    inception,
    scaled_tanh,
)
from resnetlib.ledger import ledger
from resnetlib.models import MODELS
from resnetlib.models.googlenet import AUXILIARY_WEIGHT, TABLE_1
from resnetlib.models.lenet import TABLE_I, DiscriminativeLoss, PenaltyLoss, codes

FAMILIES = ("lenet", "alexnet", "vgg", "googlenet")
NAMES = [name for name, card in MODELS.items() if card.family in FAMILIES]
CONNECTIONS = [[1, 0, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1]]  # 3 maps, 4 filters, 7 connections


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def randomise(layer, rng):
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.weights])


# ------------------------------------------------------------ local response normalisation


@pytest.mark.parametrize(("n", "channels"), [(1, 4), (3, 8), (5, 12), (5, 3), (9, 4)])
def test_lrn_is_the_oracle(n, channels, rng):
    x = rng.normal(size=(2, 3, 4, channels)).astype("float32")
    constants = {"k": 1.5, "n": n, "alpha": 0.3, "beta": 0.6}
    ours = numpy_of(LocalResponseNormalization(**constants)(x))
    oracle = numpy_ops.local_response_normalization(x, **constants)
    np.testing.assert_allclose(ours, oracle, rtol=1e-5)


def test_lrn_has_the_papers_constants(rng):
    x = 40 * rng.normal(size=(1, 2, 2, 96)).astype("float32")
    oracle = numpy_ops.local_response_normalization(x, k=2, n=5, alpha=1e-4, beta=0.75)
    np.testing.assert_allclose(numpy_of(LocalResponseNormalization()(x)), oracle, rtol=1e-5)


def test_lrn_and_its_gradient_are_tensorflows(rng):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compares with tf.nn.local_response_normalization: needs Keras on TensorFlow")
    import tensorflow as tf

    x = tf.constant(20 * rng.normal(size=(2, 5, 5, 16)), tf.float32)
    ours = LocalResponseNormalization()
    results = []
    for function in (ours, lambda x: tf.nn.local_response_normalization(x, 2, 2.0, 1e-4, 0.75)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            score = tf.reduce_sum(y**3)
        results.append((y, tape.gradient(score, x)))
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("policy", "scale", "rtol"), [("mixed_bfloat16", 20, 2e-2), ("mixed_float16", 600, 2e-3)]
)
def test_lrn_survives_16_bits(policy, scale, rtol, rng):
    x = (scale * rng.normal(size=(1, 3, 3, 32))).astype("float32")  # 600² is no float16
    y = LocalResponseNormalization(dtype=policy)(x)
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    oracle = numpy_ops.local_response_normalization(x)
    np.testing.assert_allclose(numpy_of(y), oracle, rtol=rtol)


@pytest.mark.parametrize("n", [0, 4, -1])
def test_lrn_refuses_an_even_window(n):
    with pytest.raises(ValueError, match=f"odd number.*received {n}"):
        LocalResponseNormalization(n=n)


# ------------------------------------------------------------ LeNet-5


def test_scaled_tanh_is_the_oracle_and_keeps_one():
    x = np.linspace(-4, 4, 33, dtype="float32")
    np.testing.assert_allclose(numpy_of(scaled_tanh(x)), numpy_ops.scaled_tanh(x), rtol=1e-5)
    np.testing.assert_allclose(numpy_of(scaled_tanh(np.array([-1.0, 0, 1]))), [-1, 0, 1], atol=2e-5)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7)])
def test_trainable_subsampling_is_the_oracle(height, width, rng):
    x = rng.normal(size=(2, height, width, 3)).astype("float32")
    layer = TrainableSubsampling()
    np.testing.assert_allclose(numpy_of(layer(x)), numpy_ops.average_pool(x), rtol=1e-5, atol=1e-6)
    randomise(layer, rng)
    oracle = numpy_ops.trainable_subsampling(x, *layer.get_weights())
    assert [w.name for w in layer.weights] == ["coefficient", "bias"]
    np.testing.assert_allclose(numpy_of(layer(x)), oracle, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("connections", "parameters"),
    [(CONNECTIONS, 7 * 9 + 4), ([[mark == "X" for mark in row] for row in TABLE_I], 60 * 9 + 16)],
)
def test_partial_convolution_is_a_masked_one(connections, parameters, rng):
    maps, filters = np.shape(connections)
    x = rng.normal(size=(2, 6, 7, maps)).astype("float32")
    layer = PartialConv2D(connections, 3)
    layer.build(x.shape)
    randomise(layer, rng)
    assert layer.count_params() == parameters
    kernel, bias = layer.get_weights()
    dense, window = np.zeros((3, 3, maps, filters), "float32"), 0
    for read in range(maps):
        for made in range(filters):
            if connections[read][made]:
                dense[:, :, read, made] = kernel[:, :, window]
                window += 1
    oracle = numpy_ops.conv2d_loops(x, dense, bias)
    np.testing.assert_allclose(numpy_of(layer(x)), oracle, rtol=1e-4, atol=1e-4)


def test_a_step_moves_every_window_of_a_partial_convolution(rng):
    layer = PartialConv2D(CONNECTIONS, 3)
    model = keras.Sequential([keras.Input((5, 5, 3)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = layer.get_weights()
    model.train_on_batch(rng.normal(size=(2, 5, 5, 3)), rng.normal(size=(2, 3, 3, 4)))
    assert all((old != new).all() for old, new in zip(before, layer.get_weights(), strict=True))


def test_partial_convolution_refuses_other_maps():
    with pytest.raises(ValueError, match="3 rows, one for each input map; the input has 5"):
        PartialConv2D(CONNECTIONS, 3)(np.zeros((1, 4, 4, 5)))


def test_table_1_reads_as_the_papers_text():
    """Six filters read 3 neighbours, six read 4, three read two pairs, the last reads all."""
    table = np.array([[mark == "X" for mark in row] for row in TABLE_I])
    expected = [{(first + step) % 6 for step in range(3)} for first in range(6)]
    expected += [{(first + step) % 6 for step in range(4)} for first in range(6)]
    expected += [{0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}, set(range(6))]
    assert [set(np.flatnonzero(column)) for column in table.T] == expected


def test_rbf_by_hand_and_by_the_oracle(rng):
    layer = RBF([[1, -1], [-1, -1], [1, 1]])
    # (0.5 - 1)² + (2 + 1)² = 9.25, (0.5 + 1)² + (2 + 1)² = 11.25, 0.25 + 1 = 1.25
    assert numpy_of(layer(np.array([[0.5, 2.0]]))).tolist() == [[-9.25, -11.25, -1.25]]
    assert layer.trainable_weights == []
    assert layer.count_params() == 6
    x = rng.normal(size=(5, 84)).astype("float32")
    ours = numpy_of(RBF(codes(10).tolist())(x))
    np.testing.assert_allclose(ours, -numpy_ops.rbf(x, codes(10)), rtol=1e-5)
    with pytest.raises(ValueError, match="84 numbers; the input has 83"):
        RBF(codes(10).tolist())(x[:, 1:])


def test_codes_are_ten_bitmaps_far_apart():
    digits = codes(10)
    assert digits.shape == (10, 84)
    assert set(digits.ravel()) == {-1, 1}
    apart = [(a != b).sum() for i, a in enumerate(digits) for b in digits[:i]]
    assert min(apart) >= 8
    one = digits[1].reshape(12, 7)
    assert (one[2:10, 3] == 1).all()
    assert (one[2:10, 6] == -1).all()
    assert (codes(3) == digits[:3]).all()
    assert len(np.unique(codes(26), axis=0)) == 26
    assert (codes(26)[:10] == digits).all()


def test_losses_of_lenet_by_hand():
    outputs, labels = np.array([[-1.0, -2.0, -5.0], [-4.0, -3.0, -0.5]]), np.array([1, 2])
    assert float(PenaltyLoss()(labels, outputs)) == pytest.approx((2 + 0.5) / 2)
    for j in (0.1, 1.0, 7.0):
        first = 2 + math.log(math.exp(-j) + math.exp(-1) + math.exp(-2) + math.exp(-5))
        second = 0.5 + math.log(math.exp(-j) + math.exp(-4) + math.exp(-3) + math.exp(-0.5))
        ours = float(DiscriminativeLoss(j)(labels, outputs))
        assert ours == pytest.approx((first + second) / 2, rel=1e-5)
    softmax = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, outputs)
    assert float(DiscriminativeLoss(50.0)(labels, outputs)) == pytest.approx(float(softmax), 1e-5)
    assert float(DiscriminativeLoss()(labels[:1], 100 * outputs[:1])) == pytest.approx(199, 1e-5)
    with pytest.raises(ValueError, match="above 0; received 0"):
        DiscriminativeLoss(0)


@pytest.mark.parametrize("loss", [PenaltyLoss(), DiscriminativeLoss(2.0)])
def test_lenet_learns_with_the_papers_losses(loss, rng):
    keras.utils.set_random_seed(0)
    model = models.build("lenet5_1998", classes=3)
    x, labels = rng.normal(size=(6, 32, 32, 1)), np.arange(6) % 3
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    for _ in range(60):
        model.train_on_batch(x, labels)
    value, accuracy = model.evaluate(x, labels, verbose=0)
    assert accuracy == 1
    assert value < 10


def test_lenet_has_the_papers_connections_and_fields():
    """Section II.B counts 340,908 connections: biases as well, and 5 for a subsampling unit."""
    book = ledger(models.build("lenet5_1998"))
    units = {name: math.prod(book[name].output_shape) for name in ("C1", "C3", "C5", "F6")}
    connections = {name: book[name].macs + units[name] for name in units}
    assert connections == {"C1": 122_304, "C3": 151_600, "C5": 48_120, "F6": 10_164}
    pooled = sum(5 * math.prod(book[name].output_shape) for name in ("S2", "S4"))
    assert sum(connections.values()) + pooled + book["output"].macs == 340_908
    parameters = {name: book[name].params for name in ("C1", "S2", "C3", "S4", "C5", "F6")}
    assert list(parameters.values()) == [156, 12, 1_516, 32, 48_120, 10_164]
    fields = [book[name].receptive_field for name in ("C1", "S2", "C3", "S4", "C5")]
    assert fields == [5, 6, 14, 16, 32]


# ------------------------------------------------------------ AlexNet, VGG, GoogLeNet


@pytest.mark.parametrize(
    ("kernel_size", "strides", "padding"),
    [(3, 1, None), (5, 1, 2), (1, 1, None), (7, 2, None), (5, 4, 0)],
)
def test_conv_relu_pads_every_side(kernel_size, strides, padding, rng):
    inputs = keras.Input((12, 12, 3))
    model = keras.Model(
        inputs, conv_relu(inputs, 4, kernel_size, strides, padding=padding, name="conv1")
    )
    randomise(model, rng)
    x = rng.normal(size=(2, 12, 12, 3)).astype("float32")
    zeros = kernel_size // 2 if padding is None else padding
    oracle = numpy_ops.conv2d_matmul(x, *model.get_weights(), strides=strides, padding=zeros)
    np.testing.assert_allclose(numpy_of(model(x)), np.maximum(oracle, 0), rtol=1e-4, atol=1e-4)


def test_two_groups_train_as_two_convolutions_of_half_the_maps(rng):
    """One step of gradient descent in AlexNet's conv2, small, on whatever processor is here."""
    inputs = keras.Input((9, 9, 8))
    grouped = keras.Model(inputs, conv_relu(inputs, 6, 5, groups=2, name="conv2"))
    randomise(grouped, rng)
    left, right = (layers.Conv2D(3, 5, padding="same", activation="relu") for _ in "lr")
    halves = [left(inputs[..., :4]), right(inputs[..., 4:])]
    two = keras.Model(inputs, layers.Concatenate()(halves))
    kernel, bias = grouped.get_weights()
    left.set_weights([kernel[..., :3], bias[:3]])
    right.set_weights([kernel[..., 3:], bias[3:]])
    x, y = rng.normal(size=(4, 9, 9, 8)), rng.normal(size=(4, 9, 9, 6))
    for model in (grouped, two):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(x.astype("float32"), y.astype("float32"))
    weights = zip(left.get_weights(), right.get_weights(), strict=True)
    stepped = [np.concatenate(pair, axis=-1) for pair in weights]
    assert np.abs(grouped.get_weights()[0] - kernel).max() > 1e-3
    for ours, theirs in zip(grouped.get_weights(), stepped, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_inception_is_four_branches_in_the_tables_order(rng):
    widths = (2, 3, 4, 2, 3, 5)
    inputs = keras.Input((6, 6, 4))
    model = keras.Model(inputs, inception(inputs, widths, name="m"))
    randomise(model, rng)
    x = rng.normal(size=(1, 6, 6, 4)).astype("float32")

    def conv(x, name):
        kernel, bias = model.get_layer(f"m_{name}").get_weights()
        zeros = len(kernel) // 2
        return np.maximum(numpy_ops.conv2d_matmul(x, kernel, bias, padding=zeros), 0)

    pooled = numpy_ops.max_pool(x, 3, 1, padding=1)
    branches = [
        conv(x, "1x1"),
        conv(conv(x, "3x3_reduce"), "3x3"),
        conv(conv(x, "5x5_reduce"), "5x5"),
        conv(pooled, "pool_proj"),
    ]
    assert [branch.shape[-1] for branch in branches] == [2, 4, 3, 5]
    oracle = np.concatenate(branches, axis=-1)
    np.testing.assert_allclose(numpy_of(model(x)), oracle, rtol=1e-4, atol=1e-3)


def test_table_1_of_googlenet_gives_the_papers_output_sizes():
    sizes = [one + three + five + pool for one, _, three, _, five, pool in TABLE_1.values()]
    assert sizes == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


def test_auxiliary_heads_are_trained_with_their_weight(rng):
    model = models.build("googlenet_auxiliary", input_shape=(65, 65, 3), classes=4)
    assert model.output_names == ["fc", "auxiliary_1", "auxiliary_2"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", [loss] * 3, loss_weights=[1, AUXILIARY_WEIGHT, AUXILIARY_WEIGHT])
    x, y = rng.normal(size=(2, 65, 65, 3)), np.array([0, 3])
    parts = [float(loss(y, output)) for output in model(x)]
    value = model.test_on_batch(x, [y] * 3, return_dict=True)["loss"]
    assert value == pytest.approx(parts[0] + 0.3 * parts[1] + 0.3 * parts[2], rel=1e-4)


def test_layers_are_called_as_in_the_papers():
    vgg = models.build("vgg16", input_shape=(32, 32, 3), classes=10)
    convolutions = [
        f"conv{s}_{n}" for s, last in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, last + 1)
    ]
    assert [layer.name for layer in vgg.layers if layer.weights] == [
        *convolutions,
        "fc6",
        "fc7",
        "fc8",
    ]
    alexnet = models.build("alexnet", input_shape=(67, 67, 3), classes=10)
    norms = [
        layer.name for layer in alexnet.layers if isinstance(layer, LocalResponseNormalization)
    ]
    assert norms == ["norm1", "norm2"]
    names = [layer.name for layer in alexnet.layers]
    assert names.index("conv1") < names.index("norm1") < names.index("pool1")
    assert [alexnet.get_layer(f"conv{n}").groups for n in range(1, 6)] == [1, 2, 1, 2, 2]
    assert ledger(alexnet)["norm1"].receptive_field == 11


# ------------------------------------------------------------ the whole networks


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_image_is_the_smallest(name):
    keras.backend.clear_session()
    card = MODELS[name]
    least, channels = card.min_size, card.input_shape[-1]
    model = models.build(name, input_shape=(least, least, channels), classes=3)
    assert all(min(row.output_shape) >= 1 for row in ledger(model).rows)
    smaller = (least - 1, least - 1, channels)
    with pytest.raises(ValueError, match=f"at least {least}×{least}"):
        models.build(name, input_shape=smaller, classes=3)
    if card.family != "googlenet" or name == "googlenet_auxiliary":  # it pads all the way
        family = importlib.import_module(f"resnetlib.models.{card.family}")
        with pytest.raises(ValueError, match="zero or negative"):
            family.build(name, smaller, 3)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_mini")])
def test_minis_build_for_colour_images(name, rng):
    model = models.build(name, input_shape=(32, 32, 3), classes=7)
    assert model(rng.normal(size=(2, 32, 32, 3))).shape == (2, 7)
    assert 20_000 <= model.count_params() <= 400_000


CUSTOM = [
    LocalResponseNormalization(k=1.0, n=3, alpha=0.5, beta=0.5, name="a"),
    TrainableSubsampling(name="b"),
    PartialConv2D(CONNECTIONS, 2, name="c"),
    GroupedConv2D(6, 2, groups=3, name="g"),
    layers.Activation(scaled_tanh, name="d"),
    RBF([[1, -1, 1], [-1, -1, 1]], name="e"),
]


@pytest.mark.parametrize("layer", CUSTOM, ids=lambda layer: type(layer).__name__)
def test_a_layer_comes_back_from_its_config_and_from_a_file(layer, rng, tmp_path):
    shape = (3,) if isinstance(layer, RBF) else (4, 4, 3)
    x = rng.normal(size=(2, *shape)).astype("float32")
    model = keras.Sequential([keras.Input(shape), layer])
    randomise(layer, rng)
    again = type(layer).from_config(layer.get_config())
    again.build((None, *shape))
    again.set_weights(layer.get_weights())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(numpy_of(again(x)), numpy_of(layer(x)))
    model.save(tmp_path / "layer.keras")
    loaded = keras.saving.load_model(tmp_path / "layer.keras", safe_mode=True)
    np.testing.assert_array_equal(numpy_of(loaded(x)), numpy_of(model(x)))


@pytest.mark.parametrize(
    ("groups", "strides", "padding"), [(1, 1, "same"), (2, 1, "same"), (4, 2, "valid")]
)
def test_grouped_convolution_is_keras_own_and_numpys(groups, strides, padding, rng):
    x = rng.normal(size=(2, 7, 8, 8)).astype("float32")
    arguments = (12, 3, strides, padding)
    ours, theirs = (kind(*arguments, groups=groups) for kind in (GroupedConv2D, layers.Conv2D))
    ours.build(x.shape)
    theirs.build(x.shape)
    randomise(ours, rng)
    theirs.set_weights(ours.get_weights())
    options = {"strides": strides, "padding": padding, "groups": groups}
    oracle = numpy_ops.conv2d_matmul(x, *ours.get_weights(), **options)
    np.testing.assert_allclose(numpy_of(ours(x)), oracle, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(numpy_of(ours(x)), numpy_of(theirs(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", [PenaltyLoss(), DiscriminativeLoss(2.5)])
def test_a_loss_comes_back_from_its_config(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    outputs, labels = np.array([[-1.0, -2.0, -5.0]]), np.array([1])
    assert type(again) is type(loss)
    assert float(again(labels, outputs)) == float(loss(labels, outputs))
