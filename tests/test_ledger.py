"""The ledger against published counts, integers worked out by hand, and brute force."""

import re
from math import prod

import keras
import numpy as np
import pytest
from keras import layers

from resnetlib.ledger import html_table, ledger, text_table


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


@pytest.mark.parametrize(
    ("build", "total", "trainable", "macs"),
    [
        (fashion_cnn, 1_413_834, 1_413_834, None),
        (lambda: keras.applications.VGG16(weights=None), 138_357_544, 138_357_544, 15_470_264_320),
        (lambda: keras.applications.ResNet50(weights=None), 25_636_712, 25_583_592, 3_857_973_248),
        (lambda: keras.applications.Xception(weights=None), 22_910_480, 22_855_952, None),
    ],
    ids=["fashion", "vgg16", "resnet50", "xception"],
)
def test_published_counts(build, total, trainable, macs):
    model = build()
    book = ledger(model)
    assert book.params == sum(row.params for row in book.rows) == model.count_params() == total
    assert book.trainable == trainable
    assert macs in (None, book.macs)
    rows = [row for row in book.rows if row.kind != "InputLayer"]
    built = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    for row, layer in zip(rows, built, strict=True):
        assert (row.name, row.params) == (layer.name, layer.count_params())
        assert row.output_shape == tuple(layer.output.shape[1:])
        assert row.receptive_field is not None
    assert max(map(len, str(book).splitlines())) <= 96


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
    rows, columns = np.nonzero(np.any(out != rest, axis=-1).reshape(size, size))
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
    assert text_table([("name",), ("abcdefghijklmnop",)], "l", cut=(0,), width=12).split() == [
        *("name", "-" * 12, "abcdef…lmnop")
    ]


def test_html_is_a_plain_accessible_table():
    page = ledger(letters_cnn(), batch_size=2)._repr_html_()
    assert page.count('scope="col"') == 9
    assert page.count('scope="row"') == 7
    assert re.search(r"<caption>\w+: batch of 2, float32</caption>", page)
    assert '<td style="text-align:right">8,389,120</td>' in page
    assert re.search(r"<tfoot>.*total.*8,402,618.*8,991,744.*</tfoot>", page, re.S)
    assert not re.search(r"color|background|class=|<script", page)
    assert "&lt;b&gt;</caption>" in html_table("<b>", [("x",), ("&",)], "r")
    assert ">&amp;</th>" in html_table("<b>", [("x",), ("&",)], "r")


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
