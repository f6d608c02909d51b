"""The ledger against published counts, integers worked out by hand, and brute force."""

import os
import re
import subprocess
import sys
from math import prod

import keras
import numpy as np
import pytest
from keras import layers

from resnetlib.ledger import Comparison, Ledger, Row, compare, ledger


def letters_cnn():
    """Chapter 4's network for 26 letters."""
    return keras.Sequential(
        [
            keras.Input((128, 128, 1)),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(512, activation="relu", name="hidden"),
            layers.Dense(26, name="letters"),
        ]
    )


def fashion_cnn():
    """Chapter 4's network for Fashion-MNIST."""

    def conv(filters, size):
        return layers.Conv2D(filters, size, padding="same", activation="relu")

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            conv(64, 7),
            layers.MaxPooling2D(),
            conv(128, 3),
            conv(128, 3),
            layers.MaxPooling2D(),
            conv(256, 3),
            conv(256, 3),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def of(*stack, size=(9, 9, 2)):
    return ledger(keras.Sequential([keras.Input(size), *stack]))


def test_letters_cnn_by_hand():
    book = ledger(letters_cnn())
    assert [row.name for row in book.rows][1:] == ["conv", "pool", "flatten", "hidden", "letters"]
    assert [row.params for row in book.rows] == [0, 160, 0, 0, 8_389_120, 13_338]
    assert book.params == book.trainable == 8_402_618
    assert [row.output_shape for row in book.rows] == [
        *((128, 128, 1), (64, 64, 16), (32, 32, 16), (16_384,), (512,), (26,))
    ]
    assert [row.macs for row in book.rows] == [
        *(0, 64 * 64 * 16 * 3 * 3 * 1, 0, 0, 16_384 * 512, 512 * 26)
    ]
    assert book.macs == 589_824 + 8_388_608 + 13_312
    assert [row.receptive_field for row in book.rows] == [1, 3, 5, "all", "all", "all"]
    assert [row.stride for row in book.rows] == [1, 2, 4, None, None, None]
    assert [row.inputs for row in book.rows[1:3]] == [(book.rows[0].name,), ("conv",)]


@pytest.mark.parametrize(
    ("batch_size", "dtype", "itemsize"),
    [
        (1, "float32", 4),
        (32, "float32", 4),
        (8, "float16", 2),
        (8, "bfloat16", 2),
        (2, "float64", 8),
    ],
)
def test_memory_by_hand(batch_size, dtype, itemsize):
    book = ledger(letters_cnn(), batch_size, dtype)
    values = [128 * 128, 64 * 64 * 16, 32 * 32 * 16, 16_384, 512, 26]
    assert [row.activation_bytes for row in book.rows] == [
        batch_size * itemsize * v for v in values
    ]
    assert book.activation_bytes == batch_size * itemsize * 115_226
    assert book.macs == 8_991_744, "multiply-accumulates are counted for one image"


# All and trainable parameters, multiply-accumulates (integers: exactly; the others as torchvision
# and timm print them), the depth in the name or the paper, and the last feature map's receptive
# field as Araujo, Norris and Sim 2019 print it.
APPLICATIONS = {
    "VGG16": (138_357_544, 138_357_544, 15_470_264_320, 16, 212),
    "ResNet50": (25_636_712, 25_583_592, 3_857_973_248, 50, 483),
    "Xception": (22_910_480, 22_855_952, 8.4e9, 36 + 1, None),
    "MobileNetV2": (3_538_984, 3_504_872, 0.30e9, 53, 491),
    "DenseNet121": (8_062_504, 7_978_856, 2.83e9, 121, None),
    "ConvNeXtTiny": (28_589_128, 28_589_128, 4.46e9, 59, None),
}


@pytest.fixture(scope="module", params=APPLICATIONS)
def application(request):
    model = getattr(keras.applications, request.param)(weights=None)
    return APPLICATIONS[request.param], model, ledger(model)


def test_published_counts(application):
    (total, trainable, macs, depth, field), model, book = application
    assert book.params == sum(row.params for row in book.rows) == model.count_params() == total
    assert book.trainable == trainable
    assert book.macs == (macs if isinstance(macs, int) else pytest.approx(macs, rel=0.01))
    assert book.depth == depth
    assert book.receptive_field == (field or book.receptive_field)
    assert all(row.receptive_field is not None for row in book.rows)
    assert max(map(len, str(book).splitlines())) <= 96


def test_rows_are_those_of_keras(application):
    _, model, book = application
    if any(isinstance(layer, keras.Model) for layer in model.layers):
        return  # ConvNeXt's stems are models, which the ledger opens
    rows = [row for row in book.rows if row.kind != "InputLayer"]
    built = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    for row, layer in zip(rows, built, strict=True):
        assert (row.name, row.params) == (layer.name, layer.count_params())
        assert row.output_shape == tuple(layer.output.shape[1:])


def test_peaks_by_counting_readers(application):
    """Run the rows with a set of what is alive: an output leaves after its last reader."""
    _, _, book = application
    size = {row.name: row.activation_bytes for row in book.rows}
    readers = {name: sum(name in row.inputs for row in book.rows) for name in size}
    alive, forwards = {}, []
    for row in book.rows:
        alive[row.name] = size[row.name]
        forwards.append(dict(alive))
        for name in set(row.inputs):
            readers[name] -= 1
            if not readers[name]:
                del alive[name]
    assert tuple(alive) == book.outputs
    assert book.peak_inference_bytes == max(sum(step.values()) for step in forwards)
    kept, backwards = dict(size), []
    gradients = {name: size[name] for name in book.outputs}
    for row in reversed(book.rows):
        if row.kind == "InputLayer":
            continue
        gradients |= {name: size[name] for name in row.inputs if book[name].kind != "InputLayer"}
        backwards.append(sum(kept.values()) + sum(gradients.values()))
        del kept[row.name], gradients[row.name]
    assert book.peak_training_bytes == max(backwards)


def pointwise(filters, name):
    return layers.Conv2D(filters, 1, name=name)


def test_peaks_of_a_chain_by_hand():
    """Values: x 16, a 48, b 32, c 16; 4 bytes each, 3 images."""
    book = ledger(
        keras.Sequential(
            [keras.Input((4, 4, 1)), pointwise(3, "a"), pointwise(2, "b"), pointwise(1, "c")]
        ),
        batch_size=3,
    )
    assert book.peak_inference_bytes == 12 * (48 + 32)  # a and b, x is gone
    # x, a, b kept, gradients of a and b: more than all four and the gradients of b and c
    assert book.peak_training_bytes == 12 * max(16 + 48 + 32 + 48 + 32, 112 + 32 + 16)
    assert book.activation_bytes == 12 * 112


def test_an_input_is_kept_and_has_no_gradient():
    book = of(pointwise(1, "a"), size=(4, 4, 9))
    assert (book.peak_inference_bytes, book.peak_training_bytes) == (4 * 160, 4 * (160 + 16))


@pytest.mark.parametrize(
    ("joined", "inference", "training"),
    [
        ("a", 48 + 80 + 48, 16 + 48 + 80 + 48 + 48 + 48 * 3),
        ("c", 48 + 80, 16 + 48 + 80 + 48 + 48 + 48 * 2),
    ],
    ids=["shortcut", "chain"],
)
def test_a_shortcut_is_held_across_its_branch(joined, inference, training):
    """Values: x 16, a 48, b 80, c 48, sum 48, d 16; the shortcut needs a until the sum."""
    x = keras.Input((4, 4, 1))
    a = pointwise(3, "a")(x)
    c = pointwise(3, "c")(pointwise(5, "b")(a))
    y = layers.Add(name="sum")([a, c]) if joined == "a" else layers.ReLU(name="sum")(c)
    book = ledger(keras.Model(x, pointwise(1, "d")(y)))
    assert book.peak_inference_bytes == 4 * inference
    # everything up to the sum is kept, with the gradients of the sum, of c and, for the shortcut, a
    assert book.peak_training_bytes == 4 * training


def test_outputs_of_the_model_stay_and_unread_ones_go():
    x = keras.Input((4, 4, 1))
    inner = keras.Model(x, [pointwise(9, "unread")(x), pointwise(2, "read")(x)], name="inner")
    y = keras.Input((4, 4, 1))
    early = pointwise(7, "early")(y)
    late = pointwise(3, "late")(inner(y)[1])
    book = ledger(keras.Model(y, [early, late]))
    assert book.outputs == ("early", "late")
    steps = dict(zip((row.name for row in book.rows), book._held(book.rows), strict=True))
    assert steps["late"] == 64 * (7 + 2 + 3)
    assert book.peak_inference_bytes == max(steps.values())


MEASURE = """
import sys
import keras, tensorflow as tf
from resnetlib.ledger import ledger

x = keras.Input((64, 64, 3))
y = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(x)
for _ in range(3):
    z = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(y)
    z = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(z)
    y = keras.layers.Add()([y, z]) if sys.argv[1] == "residual" else z
y = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D()(y))
model = keras.Model(x, keras.layers.Dense(10)(y))
signature = [tf.TensorSpec((None, 64, 64, 3))]

@tf.function(input_signature=signature)
def inference(x):
    return model(x)

@tf.function(input_signature=signature)
def training(x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True)))
    return tape.gradient(loss, model.trainable_variables)

def memory(what):
    # Not ru_maxrss: in a child process it starts with the parent's memory.
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return 1024 * int(lines[what].split()[0])

for step in (inference, training):
    step(tf.ones((1, 64, 64, 3)))  # traced, and its threads started
    open("/proc/self/clear_refs", "w").write("5")  # forgets the highest mark so far
    before = memory("VmRSS")
    step(tf.ones((48, 64, 64, 3)))
    print(memory("VmHWM") - before)
book = ledger(model, 48)
print(book.peak_inference_bytes, book.peak_training_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process' memory from /proc")
@pytest.mark.parametrize("net", ["stack", "residual"])
def test_peaks_are_within_a_factor_of_two_of_a_process_growth(net):
    # The allocator gives every freed block of 64 kB or more back at once, so that the growth is
    # what TensorFlow holds and not what the C library keeps for later.
    environment = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "",
    }
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, net],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    inference, training, *expected = map(int, run.stdout.split())
    print(inference / expected[0], training / expected[1])
    assert 1 / 2 < inference / expected[0] < 2
    assert 1 / 2 < training / expected[1] < 2


# Hand-computed: output positions times kernel weights (height × width × channels in × filters).
MACS = {
    "valid": (layers.Conv2D(4, 3), 7 * 7 * 3 * 3 * 2 * 4),
    "same, stride 2": (layers.Conv2D(4, 3, strides=2, padding="same"), 5 * 5 * 3 * 3 * 2 * 4),
    "tall kernel": (layers.Conv2D(4, (3, 1)), 7 * 9 * 3 * 1 * 2 * 4),
    "dilated": (layers.Conv2D(4, 3, dilation_rate=2), 5 * 5 * 3 * 3 * 2 * 4),
    "groups": (layers.Conv2D(4, 3, groups=2), 7 * 7 * 3 * 3 * 1 * 4),
    "no bias": (layers.Conv2D(4, 3, use_bias=False), 7 * 7 * 3 * 3 * 2 * 4),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=5), 7 * 7 * 3 * 3 * 2 * 5),
    "separable": (
        layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=3),
        4 * 4 * (3 * 3 * 2 * 3 + 2 * 3 * 4),
    ),
    "dense on pixels": (layers.Dense(6), 9 * 9 * 2 * 6),
    "pooling": (layers.AveragePooling2D(3), 0),
    "batch norm": (layers.BatchNormalization(), 0),
    "activation": (layers.ReLU(), 0),
}


@pytest.mark.parametrize("case", MACS)
def test_macs_by_hand(case):
    layer, macs = MACS[case]
    assert of(layer).macs == macs


def perturbed(build, size):
    """Return the (height, width) of the input pixels that change the middle output value.

    Every pixel in turn gets a spike; positive weights let no two effects cancel.
    """
    model = build(keras.Input((size, size, 1)))
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.5, 1, w.shape) for w in model.get_weights()])
    flat = np.full((1, size, size, 1), 0.5, "float32")
    spikes = flat + 10 * np.eye(size * size, dtype="float32").reshape(-1, size, size, 1)
    out = model.predict(spikes, batch_size=512, verbose=0)
    rest = model.predict(flat, verbose=0)
    if out.ndim > 2:
        middle = out.shape[1] // 2, out.shape[2] // 2
        out, rest = out[:, *middle], rest[:, *middle]
    # A product of matrices may round otherwise in another batch: by less than this, and no spike
    # changes a sum of a few thousand positive terms by as little.
    changed = ~np.isclose(out, rest, rtol=2e-5, atol=0)
    rows, columns = np.nonzero(np.any(changed, axis=-1).reshape(size, size))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1, model


def chain(*stack):
    return lambda x: keras.Sequential([x, *stack])


def residual(x):
    y = layers.Conv2D(2, 3, strides=2, padding="same")(x)
    z = layers.Conv2D(2, 3, padding="same", activation="relu")(y)
    z = layers.BatchNormalization()(z)
    z = layers.Conv2D(2, 3, padding="same")(z)
    z = layers.ReLU()(layers.Add()([y, z]))
    return keras.Model(x, layers.MaxPooling2D(3, 2)(z))


def inception(x):
    a = layers.Conv2D(1, 1)(x)
    b = layers.Conv2D(1, 5, padding="same")(layers.Conv2D(1, 1)(x))
    c = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    return keras.Model(x, layers.Conv2D(1, 3, strides=3)(layers.Concatenate()([a, b, c])))


def arithmetic(x):
    y = layers.Conv2D(1, 3, padding="same")(x)
    return keras.Model(x, keras.ops.relu(x + y * 2.0))


FIELDS = {
    "one": (chain(layers.Conv2D(1, 3)), 3, 1),
    "two": (chain(layers.Conv2D(1, 3), layers.Conv2D(1, 3)), 5, 1),
    "after a stride": (chain(layers.Conv2D(1, 5, strides=3), layers.Conv2D(1, 3)), 11, 3),
    "dilated": (chain(layers.Conv2D(1, 3, dilation_rate=4), layers.Conv2D(1, 3)), 11, 1),
    "pool": (chain(layers.Conv2D(2, 3), layers.MaxPooling2D(2), layers.Conv2D(1, 3)), 8, 2),
    "overlapping": (chain(layers.AveragePooling2D(3, 2), layers.MaxPooling2D(3, 2)), 7, 4),
    "not square": (chain(layers.Conv2D(1, (5, 3), strides=(1, 2)), layers.Conv2D(1, 3)), 7, (1, 2)),
    "flat": (chain(layers.Conv2D(1, (1, 7)), layers.MaxPooling2D((1, 2))), (1, 8), (1, 2)),
    "padded": (chain(layers.ZeroPadding2D(2), layers.Conv2D(1, 5, strides=2)), 5, 2),
    "separable": (chain(layers.SeparableConv2D(2, 3), layers.DepthwiseConv2D(5)), 7, 1),
    "1x1": (chain(layers.Rescaling(2.0), layers.Conv2D(3, 1), layers.Dense(2)), 1, 1),
    "residual": (residual, 15, 4),
    "inception": (inception, 7, 3),
    "arithmetic": (arithmetic, 3, 1),
}


@pytest.mark.parametrize("case", FIELDS)
def test_receptive_field_by_brute_force(case):
    build, field, stride = FIELDS[case]
    height, width, model = perturbed(build, size=25)
    row = ledger(model).rows[-1]
    assert row.receptive_field == field
    assert field == ((height, width) if isinstance(field, tuple) else height)
    assert isinstance(field, tuple) or height == width
    assert row.stride == stride


@pytest.mark.parametrize(
    "stack",
    [
        (layers.Conv2D(1, 3), layers.GlobalAveragePooling2D()),
        (layers.GlobalMaxPooling2D(keepdims=True),),
        (layers.Conv2D(1, 5, strides=2), layers.Flatten(), layers.Dense(3)),
        (layers.Flatten(), layers.Reshape((9, 9, 1)), layers.Dropout(0.5), layers.Dense(2)),
    ],
    ids=["global average", "global max", "dense", "reshaped"],
)
def test_whole_input_by_brute_force(stack):
    if any(isinstance(layer, layers.Reshape) for layer in stack):
        # A flattened image is no image any more, even where it is folded back.
        assert of(*stack, size=(9, 9, 1)).rows[-1].receptive_field == "all"
        return
    height, width, model = perturbed(chain(*stack), size=9)
    assert (height, width) == (9, 9)
    assert (ledger(model).rows[-1].receptive_field, ledger(model).rows[-1].stride) == ("all", None)


@pytest.mark.parametrize("turn", [1, -1])
def test_squeeze_and_excite_sees_everything_at_the_trunk_stride(turn):
    x = keras.Input((16, 16, 3))
    y = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    s = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(y))
    s = layers.Dense(4, activation="sigmoid")(layers.Dense(2)(s))
    y = layers.Conv2D(4, 3)(layers.Multiply(name="scale")([y, s][::turn]))
    book = ledger(keras.Model(x, y))
    assert (book["scale"].receptive_field, book["scale"].stride) == ("all", 2)
    assert book.rows[-1].receptive_field == "all"
    assert book.macs == 8 * 8 * 9 * 3 * 4 + 4 * 2 + 2 * 4 + 6 * 6 * 9 * 4 * 4


def test_reshape_that_adds_a_channel_keeps_the_image():
    for size in ((9, 9), (81,)):
        book = of(layers.Reshape((9, 9, 1)), layers.Conv2D(1, 3), size=size)
        assert [row.receptive_field for row in book.rows] == [1, 1, 3]


def test_reshape_that_mixes_places_is_unknown():
    book = of(layers.Conv2D(4, 3, strides=2), layers.Reshape((8, 8, 1)))
    assert [row.receptive_field for row in book.rows] == [1, 3, None]


def test_models_inside_models_are_opened():
    inner = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(2, 3, padding="same", name="conv")], name="inner"
    )
    x = keras.Input((16, 16, 1))
    y = inner(layers.Conv2D(2, 3, strides=2, padding="same")(x))
    model = keras.Model(x, layers.Flatten()(layers.Add()([inner(y), y])))
    book = ledger(model)
    names = [row.name for row in book.rows]
    assert names[2:4] == ["inner/conv", "inner/conv (call 2)"]
    assert [book[name].receptive_field for name in names[2:4]] == [7, 11], "each call has its own"
    assert [book[name].params for name in names[2:4]] == [38, 0], "shared weights count once"
    assert [book[name].macs for name in names[2:4]] == [8 * 8 * 9 * 2 * 2] * 2
    assert set(book.rows[-2].inputs) == {"inner/conv", "inner/conv (call 2)"}
    assert book.params == model.count_params()


def test_frozen_layers_are_not_trainable():
    model = letters_cnn()
    model.get_layer("hidden").trainable = False
    assert (ledger(model).params, ledger(model).trainable) == (8_402_618, 160 + 13_338)


def test_unknown_layers_are_marked_and_not_guessed():
    book = of(layers.Conv2DTranspose(2, 3, name="up"), layers.Conv2D(1, 1), layers.Flatten())
    assert book["up"].params == 3 * 3 * 2 * 2 + 2
    assert (book["up"].macs, book.macs) == (None, None)
    assert [row.receptive_field for row in book.rows] == [1, None, None, "all"]
    up, total = (line.split() for line in str(book).splitlines() if line[:2] in ("up", "to"))
    assert (up[4], up[6], total[2]) == ("?", "?", "?")
    silent = of(layers.Lambda(lambda x: x, name="lambda"))["lambda"]
    assert (silent.macs, silent.receptive_field) == (0, None)


def test_an_unknown_branch_makes_the_sum_unknown_unless_another_sees_everything():
    x = keras.Input((9, 9, 1))
    known, unknown = layers.ReLU()(x), layers.Lambda(lambda x: x)(x)
    whole = layers.GlobalMaxPooling2D(keepdims=True)(x)
    for branches, field in [
        ([unknown, known], None),
        ([known, unknown], None),
        ([whole, unknown], "all"),
    ]:
        book = ledger(keras.Model(x, layers.ReLU()(layers.Add()(branches))))
        assert [row.receptive_field for row in book.rows[-2:]] == [field, field]


def test_a_custom_layer_with_window_and_strides_is_read():
    class Subsampling(layers.Layer):
        pool_size, strides = 2, 2

        def call(self, x):
            return keras.ops.average_pool(x, 2, 2)

    row = of(layers.Conv2D(1, 5), Subsampling(), size=(28, 28, 1)).rows[-1]
    assert (row.receptive_field, row.stride) == (6, 2)


class Codes(layers.Layer):
    """Distances to fixed codes: weights that are not trained."""

    def build(self, input_shape):
        self.codes = self.add_weight(shape=(10, 84), trainable=False)

    def call(self, x):
        return keras.ops.sum(keras.ops.square(x[:, None] - self.codes), axis=2)

    def macs(self, input_shape, output_shape):
        return input_shape[0] * output_shape[0]


class Masked(layers.Conv2D):
    """A convolution that says it uses one of its kernel's weights at each place."""

    def macs(self, input_shape, output_shape):
        assert (input_shape, output_shape) == ((14, 14, 6), (10, 10, 16))
        return output_shape[0] * output_shape[1]


class Pixelwise(layers.Layer):
    kernel_size = strides = 1

    def call(self, x):
        return x / 2


def test_a_layer_says_its_own_multiply_accumulates():
    book = of(
        Masked(16, 5, name="c3"), layers.Flatten(), layers.Dense(84), Codes(), size=(14, 14, 6)
    )
    assert (book["c3"].macs, book["c3"].params) == (100, 5 * 5 * 6 * 16 + 16)
    assert book["c3"].receptive_field == 5
    assert (book.rows[-1].macs, book.rows[-1].params, book.rows[-1].trainable) == (840, 840, 0)
    assert book.rows[-1].receptive_field == "all"
    assert book.macs == 100 + 1600 * 84 + 840


def test_a_layer_that_works_on_each_pixel_alone_is_read():
    book = of(layers.Conv2D(4, 3, strides=2), Pixelwise(), layers.Conv2D(1, 3))
    assert [(row.receptive_field, row.stride) for row in book.rows] == [
        *((1, 1), (3, 2), (3, 2), (7, 2))
    ]
    assert book.rows[2].macs == 0


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        (layers.LayerNormalization(), 3),
        (layers.LayerNormalization(axis=[1, 2, 3]), "all"),
        (layers.GroupNormalization(2), "all"),
    ],
    ids=["channels", "image", "groups"],
)
def test_normalisation_of_one_image_sees_what_it_averages(layer, field):
    height, _, model = perturbed(chain(layers.Conv2D(2, 3, padding="same"), layer), size=7)
    row = ledger(model).rows[-1]
    assert (row.receptive_field, row.stride, row.macs) == (field, 1, 0)
    assert height == (7 if field == "all" else 3)


def test_a_layer_for_sequences_is_unknown():
    book = of(layers.Conv1D(4, 3), size=(20, 3))
    assert (book.rows[-1].macs, book.rows[-1].receptive_field) == (None, None)


def test_text_is_aligned_and_names_its_units():
    lines = str(ledger(letters_cnn())).splitlines()
    table = [line for line in lines[:10] if not line.startswith("-")]
    assert lines[0].split() == [
        *("layer", "kind", "output", "params", "MACs", "bytes", "field", "stride")
    ]
    for number in ("8,389,120", "8,388,608"):
        (line,) = [line for line in table if number in line]
        column = {"8,389,120": "params", "8,388,608": "MACs"}[number]
        assert line.index(number) + len(number) == lines[0].index(column) + len(column)
    assert re.search(r"^total +8,402,618 +8,991,744 +460,904$", "\n".join(lines), re.M)
    assert "8,402,618 of 8,402,618 parameters are trainable." in lines
    # conv and pool; x, conv and pool kept, with the gradients of conv and pool
    peaks = "327,680 bytes in inference, 720,896 in training"
    assert f"Held at once: {peaks}, without parameters." in lines
    assert "all" in lines[-1]


def test_more_than_ten_megabytes_are_shown_in_thousands():
    text = str(ledger(letters_cnn(), batch_size=32))
    assert text.splitlines()[0].split()[5] == "kB"
    assert re.search(r"^conv .* 8,389 +3 +2$", text, re.M), (
        "32 · 64 · 64 · 16 · 4 = 8,388,608 bytes"
    )
    assert re.search(r"^total .* 14,749$", text, re.M), "32 · 460,904 = 14,748,928 bytes"


def test_long_names_are_cut_to_fit():
    name = "a_very_long_name_" * 8
    book = of(layers.Conv2D(4, 3, name=name + "one"), layers.ReLU(name=name + "two"))
    text = str(book)
    assert max(map(len, text.splitlines())) <= 96
    assert [line.split()[0][-3:] for line in text.splitlines()[3:5]] == ["one", "two"]


def test_html_is_a_plain_accessible_table():
    page = ledger(letters_cnn(), batch_size=2)._repr_html_()
    assert page.count('scope="col"') == 9
    assert page.count('scope="row"') == 7
    assert re.search(r"<caption>\w+: batch of 2, float32</caption>", page)
    assert '<td style="text-align:right">8,389,120</td>' in page
    assert re.search(r"<tfoot>.*total.*8,402,618.*8,991,744.*</tfoot>", page, re.S)
    assert not re.search(r"color|background|class=|<script", page)
    assert page.endswith(
        "</table>\n<p>Held at once: 655,360 bytes in inference, 1,441,792 in training, "
        "without parameters.</p>"
    )


def test_a_ledger_is_short_to_look_at_and_easy_to_ask():
    book = ledger(letters_cnn())
    assert len(repr(book)) < 80
    assert book["pool"].kind == "MaxPooling2D"
    with pytest.raises(KeyError, match=r"no layer 'pol'.*pool, flatten"):
        book["pol"]


def subclassed():
    class Net(keras.Model):
        def call(self, x):
            return x

    return Net(name="net")


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: layers.Dense(3), TypeError, "needs a keras.Model; received Dense"),
        (lambda: keras.Sequential([layers.Dense(3)], name="raw"), ValueError, "'raw'.*build it"),
        (subclassed, ValueError, "'net' has no graph to read"),
        (
            lambda: keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3)]),
            ValueError,
            r"None, None.*fixed image size",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((3, 8, 8)),
                    layers.MaxPooling2D(2, data_format="channels_first", name="p"),
                ]
            ),
            ValueError,
            "'p' is channels_first; the ledger reads channels_last",
        ),
    ],
    ids=["layer", "unbuilt", "subclassed", "open size", "channels first"],
)
def test_models_without_a_ledger(build, error, message):
    with pytest.raises(error, match=message):
        ledger(build())


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, "8"])
def test_bad_batch_size(batch_size):
    with pytest.raises(ValueError, match=f"at least 1; received {batch_size!r}"):
        ledger(letters_cnn(), batch_size=batch_size)


def test_bad_dtype():
    with pytest.raises(ValueError, match="float64, float32, bfloat16, float16; received 'int4'"):
        ledger(letters_cnn(), dtype="int4")


def test_reading_leaves_the_model_as_it_was():
    model = letters_cnn()

    def nodes():
        return [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in model.layers]

    before = nodes()
    weights = [prod(w.shape) for w in model.weights]
    ledger(model)
    assert nodes() == before
    assert [prod(w.shape) for w in model.weights] == weights


# Several models


def small(filters, name, strides=1):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(filters, 3, strides=strides, padding="same", name="conv"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(10),
        ],
        name=name,
    )


def test_comparison_by_hand():
    models = [small(2, "two"), small(4, "four", strides=2)]
    table = compare(models)
    assert isinstance(table, Comparison)
    assert [book.model for book in table.ledgers] == ["two", "four"]
    lines = str(table).splitlines()
    assert lines[0].split() == [
        *("model", "depth", "params", "trainable", "MACs"),
        *("outputs", "inference", "training", "field"),
    ]
    assert [line.split() for line in lines[:4] if line[0] != "-"] == [
        *(
            lines[0].split(),
            # 9·2 + 2 + 4·2 + 128·10 + 10; 64·9·2 + 128·10; 4 · (64 + 3·128 + 10), 4 · 256,
            # 4 · (64 + 3·128 + 2·128)
            ["two", "2", "1,318", "1,314", "2,432", "1,832", "1,024", "2,816", "3"],
            ["four", "2", "706", "698", "1,216", "1,064", "512", "1,536", "3"],
        )
    ]
    assert "in bytes, for a batch of 1 in float32" in lines[4]


def test_comparison_takes_ledgers_models_and_mixtures():
    models = [small(2, "two"), small(4, "four")]
    expected = str(compare(models, 8, "float16"))
    assert "a batch of 8 in float16" in expected
    assert str(compare([ledger(model, 8, "float16") for model in models])) == expected
    assert str(compare((models[0], ledger(models[1], 8, "float16")), 8, "float16")) == expected


def test_comparison_of_large_models_fits_and_shortens_its_units():
    sizes = {"params": 123_456_789, "trainable": 123_456_789, "macs": 123_456_789_012}
    field = {"receptive_field": (111, 222), "stride": 4, "inputs": ()}
    row = Row("conv", "Conv2D", (9, 9, 1), activation_bytes=12_345_678_901, **sizes, **field)
    huge = Ledger("a_long_name_for_a_model", 1, "float32", [row], ("conv",))
    lines = str(compare([huge, small(2, "two"), unknown()])).splitlines()
    assert max(map(len, lines)) <= 96
    assert lines[2].split() == [
        *("a_lon…model", "1", "123,456,789", "123,456,789", "123,456.8", "M"),
        *("12,346", "12,346", "24,691", "111×222"),
    ]
    assert lines[3].split() == ["two", "2", "1,318", "1,314", "0.0", "M", "0", "0", "0", "3"]
    assert lines[4].split() == ["unknown", "1", "10", "10", "?", "0", "0", "0", "?"]
    assert "in MB, for a batch of 1 in float32" in lines[5]


def unknown():
    return keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2DTranspose(1, 3)], name="unknown")


def test_comparison_in_html():
    page = compare([small(2, "two"), small(4, "<b>")])._repr_html_()
    assert page.count('scope="col"') == 9
    assert page.count('scope="row"') == 2
    assert "&lt;b&gt;" in page
    assert '<td style="text-align:right">2,816</td>' in page
    assert "<caption>2 models: batch of 1, float32; bytes</caption>" in page
    assert not re.search(r"color|background|class=|<script", page)


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        (lambda: small(2, "two"), TypeError, "a list of models or ledgers; received Sequential"),
        (lambda: ledger(small(2, "two")), TypeError, "a list of .*; received Ledger"),
        (lambda: "resnet50", TypeError, "a list of .*; received str"),
        (list, ValueError, "at least one model or ledger; received none"),
        (lambda: [small(2, "two"), "resnet50"], TypeError, "keras.Models or Ledgers; received str"),
        (
            lambda: [ledger(small(2, "two"), 8), small(4, "four")],
            ValueError,
            "one batch size and dtype .*a batch of 1 in float32 and a batch of 8 in float32",
        ),
    ],
    ids=["a model", "a ledger", "a name", "nothing", "a name inside", "two batch sizes"],
)
def test_what_cannot_be_compared(models, error, message):
    with pytest.raises(error, match=message):
        compare(models())


def test_depth_is_the_longest_way():
    x = keras.Input((8, 8, 2))
    y = layers.Conv2D(2, 3, padding="same")(layers.Conv2D(2, 3, padding="same")(x))
    y = layers.Add()([layers.Conv2D(2, 1)(x), layers.BatchNormalization()(y)])
    book = ledger(keras.Model(x, layers.Dense(3)(layers.Flatten()(layers.ReLU()(y)))))
    assert book.depth == 3


def test_receptive_field_of_the_last_map():
    assert of(layers.Conv2D(2, 3), layers.GlobalAveragePooling2D()).receptive_field == 3
    assert ledger(unknown()).receptive_field is None
