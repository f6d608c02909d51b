"""Every architecture of the registry: counts, shapes, costs, gradients, files, and bad input.

The counts and costs come from the papers and from published tables (see the cards); nothing here
is compared with our own output.
"""

import subprocess
import sys
import zipfile
from collections import Counter

import keras
import numpy as np
import pytest
from keras import ops

from resnetlib import models
from resnetlib.ledger import ledger
from resnetlib.models import MODELS, resnet

MINIS = [name for name in MODELS if name.endswith("_mini")]
# Parameters that share no code with the minis: worth a round trip through a file.
FILED = [*MINIS, "lenet5_1998", "resnet20", "preact_resnet20", "se_resnet20"]
# The papers print billions of multiply-accumulates with one decimal, and cut where others round:
# 3.858 is printed as 3.8.
TABLE_1 = {"resnet18": 1.8, "resnet34": 3.6, "resnet50": 3.8, "resnet101": 7.6, "resnet152": 11.3}


@pytest.fixture(scope="module")
def built():
    """The last model built, for the tests that follow each other with one name."""
    last = {}

    def get(name):
        if name not in last:
            last.clear()
            keras.backend.clear_session()
            last[name] = models.build(name)
        return last[name]

    return get


def small(name, seed=0):
    """The network for the smallest image that leaves its last maps two pixels, if it can."""
    keras.utils.set_random_seed(seed)
    card = MODELS[name]
    size = min(2 * card.min_size, card.input_shape[0])
    model = models.build(name, input_shape=(size, size, card.input_shape[2]), classes=10)
    images = np.random.default_rng(seed).uniform(size=(2, *model.input_shape[1:]))
    return model, images.astype("float32")


def first(outputs):
    """The main logits, where auxiliary heads give more."""
    return outputs[0] if isinstance(outputs, list | tuple) else outputs


def wake(model):
    """Give every zero-initialised gamma a value, so that a gradient can pass it."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(np.full(layer.gamma.shape, 0.5, "float32"))


def gradients(model, images):
    """The gradient of a random weighted sum of all logits, for each trainable variable."""
    every = np.random.default_rng(1)

    def total(outputs):
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return sum(ops.sum(ops.multiply(out, every.normal(size=out.shape))) for out in outputs)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = total(model(images, training=True))
        return [np.asarray(g) for g in tape.gradient(loss, model.trainable_weights)]
    if keras.backend.backend() == "jax":
        import jax

        others = [v.value for v in model.non_trainable_variables]

        def loss(values):
            return total(model.stateless_call(values, others, images, training=True)[0])

        return jax.grad(loss)([v.value for v in model.trainable_variables])
    loss = total(model(images, training=True))
    loss.backward()
    return [v.value.grad.cpu().numpy() for v in model.trainable_weights]


@pytest.mark.parametrize("name", MODELS)
def test_counts_shapes_and_costs(name, built):
    card, model = MODELS[name], built(name)
    book = ledger(model)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert (trainable, model.count_params()) == (card.trainable, card.total)
    assert (book.trainable, book.params, book.macs) == (card.trainable, card.total, card.macs)
    assert {layer: book[layer].output_shape for layer in card.stages} == card.stages
    assert model.name == name
    assert first(model.outputs).shape == (None, card.classes)
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers)


@pytest.mark.parametrize(("name", "billions"), TABLE_1.items())
def test_the_costs_of_the_residual_paper(name, billions):
    assert MODELS[name].macs == pytest.approx(billions * 1e9, rel=0.02)


def test_a_count_alone_would_pass_with_the_strides_in_the_wrong_stage():
    """The trap of FACTS: only the stage shapes tell these two networks apart."""
    plan = resnet.PLANS["resnet50"]
    wrong = resnet.replace(plan, strides=(2, 1, 2, 2))
    resnet.PLANS["wrong"] = wrong
    try:
        model = resnet.build("wrong", (224, 224, 3), 1000)
    finally:
        del resnet.PLANS["wrong"]
    assert ledger(model).trainable == MODELS["resnet50"].trainable
    shape = ledger(model)["conv2_3_relu"].output_shape
    assert shape != MODELS["resnet50"].stages["conv2_3_relu"]


@pytest.mark.parametrize("name", MODELS)
def test_finite_and_a_gradient_reaches_every_variable(name):
    model, images = small(name)
    assert np.isfinite(ops.convert_to_numpy(first(model(images)))).all()
    wake(model)
    for variable, gradient in zip(model.trainable_variables, gradients(model, images), strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


@pytest.mark.parametrize("name", MINIS)
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_minis_build_for_both_data_sets(name, shape):
    model = models.build(name, input_shape=shape, classes=10)
    assert first(model.outputs).shape == (None, 10)
    assert 10_000 < model.count_params() < 500_000


@pytest.mark.parametrize("name", MINIS)
def test_minis_learn_a_batch_by_heart(name):
    keras.utils.set_random_seed(3)
    model = models.build(name)
    generator = np.random.default_rng(3)
    images = generator.uniform(size=(16, 28, 28, 1)).astype("float32")
    labels = np.arange(16) % 10
    model.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    for _ in range(20):
        for _ in range(10):
            model.train_on_batch(images, labels)
        # Without dropout, which would forget on purpose.
        learned = np.argmax(ops.convert_to_numpy(model(images)), axis=-1) == labels
        if learned.all():
            break
    assert learned.all()


@pytest.mark.parametrize("name", FILED)
def test_files_give_the_same_outputs(name, tmp_path):
    model, images = small(name)
    wake(model)
    expected = ops.convert_to_numpy(first(model(images)))
    model.save(tmp_path / "model.keras")
    whole = keras.saving.load_model(tmp_path / "model.keras")  # safe_mode, Keras' default
    assert np.array_equal(ops.convert_to_numpy(first(whole(images))), expected)
    model.save_weights(tmp_path / "model.weights.h5")
    other, _ = small(name, seed=1)
    assert not np.allclose(ops.convert_to_numpy(first(other(images))), expected)
    other.load_weights(tmp_path / "model.weights.h5")
    assert np.array_equal(ops.convert_to_numpy(first(other(images))), expected)


def test_a_file_executes_no_code(tmp_path):
    """A model of ours holds no code: only Keras' layers and the library's registered ones."""
    for name in FILED:
        model, _ = small(name)
        model.save(tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras") as archive:
            config = archive.read("config.json").decode()
        assert "__lambda__" not in config
        assert '"class_name": "Lambda"' not in config
    # And Keras refuses a file that does hold code, unless the reader asks for it.
    inputs = keras.Input((4,))
    trap = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs))
    trap.save(tmp_path / "trap.keras")
    with pytest.raises(ValueError, match="unsafe"):
        keras.saving.load_model(tmp_path / "trap.keras")


@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_shortcut_options(option):
    """He et al. 2015, table 3, for ResNet-34: A adds nothing, B 3 projections, C 16."""
    model = resnet.build("resnet34", (64, 64, 3), 1000, option=option)
    projections = [layer for layer in model.layers if layer.name.endswith("shortcut_conv")]
    assert len(projections) == {"A": 0, "B": 3, "C": 16}[option]
    plain = MODELS["plain34"].trainable
    by_hand = {"A": 0, "B": 0, "C": 0}
    for width, before, blocks in ((64, 64, 3), (128, 64, 4), (256, 128, 6), (512, 256, 3)):
        changing = before * width + 2 * width if before != width else 0
        by_hand["B"] += changing
        same = blocks - (before != width)
        by_hand["C"] += changing + same * (width * width + 2 * width)
    assert ledger(model).trainable == plain + by_hand[option]


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet20"])
def test_an_unknown_option_is_named(name):
    with pytest.raises(ValueError, match="option is 'A', 'B' or 'C'; received 'b'"):
        resnet.build(name, (32, 32, 3), 10, option="b")


@pytest.mark.parametrize(
    ("name", "option", "identity"),
    [("resnet20", "B", True), ("resnet20", "A", False), ("plain20", None, False)],
)
def test_a_residual_block_starts_as_the_identity(name, option, identity):
    """With the last gamma at 0 the trunk passes unchanged; the others have no such start."""
    keras.utils.set_random_seed(0)
    model = resnet.build(name, (32, 32, 3), 10, option=option)
    ends = [model.get_layer(layer).output for layer in ("conv1_relu", "conv2_3_relu")]
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    before, after = map(ops.convert_to_numpy, keras.Model(model.inputs, ends)(images))
    assert np.allclose(before, after) == identity


@pytest.mark.parametrize("option", ["A", "B", "C"])
@pytest.mark.parametrize("name", ["resnet20", "resnet_mini", "preact_resnet_mini"])
def test_every_channel_can_learn_from_the_first_step(name, option):
    """With option A a last gamma of 0 would leave channels at 0, where ReLU has no gradient."""
    keras.utils.set_random_seed(0)
    can_learn(resnet.build(name, (32, 32, 3), 10, option=option))


def test_every_rescaled_channel_can_learn_from_the_first_step():
    keras.utils.set_random_seed(0)
    can_learn(models.build("se_resnet_mini"))


def can_learn(model):
    images = np.random.default_rng(0).uniform(size=(8, *model.input_shape[1:])).astype("float32")
    slopes = zip(model.trainable_weights, gradients(model, images), strict=True)
    lasts = {w.path: np.asarray(slope) for w, slope in slopes if w.path.endswith("_b_bn/gamma")}
    assert len(lasts) >= 3
    for path, slope in lasts.items():
        assert slope.all(), f"{(slope == 0).sum()} of {len(slope)} channels of {path} are dead"


THEIRS = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "xception": keras.applications.Xception,
}


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="counts TensorFlow's operations"
)
@pytest.mark.parametrize("step", ["forward", "training"])
@pytest.mark.parametrize("name", THEIRS)
def test_no_operation_on_a_map_more_than_keras_own_model_takes(name, step):
    """What can be said of speed without a clock; benchmarks/models.py has the clock."""
    import tensorflow as tf

    def operations(model):
        def forward(images):
            return model(images, training=False)

        def training(images):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(images, training=True))
            return tape.gradient(loss, [v.value for v in model.trainable_variables])

        run = tf.function({"forward": forward, "training": training}[step])
        graph = run.get_concrete_function(tf.TensorSpec((8, 224, 224, 3))).graph
        return Counter(
            (operation.type, tuple(output.shape))
            for operation in graph.get_operations()
            for output in operation.outputs
            if output.shape.rank == 4
        )

    ours = operations(models.build(name, input_shape=(224, 224, 3)))
    theirs = operations(THEIRS[name](weights=None, input_shape=(224, 224, 3)))
    assert sum(count for (kind, _), count in ours.items() if kind == "Conv2D") > 10
    assert ours <= theirs


def test_an_unknown_name_gets_the_choices():
    with pytest.raises(ValueError, match=r"'resnet51'.*resnet50, .*xception"):
        models.build("resnet51")


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_image(name):
    card = MODELS[name]
    least = (card.min_size, card.min_size, card.input_shape[2])
    assert first(models.build(name, input_shape=least, classes=2).outputs).shape == (None, 2)
    too_small = (card.min_size - 1, card.min_size, card.input_shape[2])
    with pytest.raises(ValueError, match=rf"{name} needs images of at least {card.min_size}×"):
        models.build(name, input_shape=too_small)


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"classes": 0}, ValueError, "classes is at least 1; received 0"),
        ({"classes": 2.0}, TypeError, "classes is an integer; received 2.0"),
        ({"classes": True}, TypeError, "classes is an integer; received True"),
        ({"input_shape": (32, 32)}, ValueError, r"without the batch; received \(32, 32\)"),
        ({"input_shape": (1, 32, 32, 3)}, ValueError, "without the batch"),
        ({"input_shape": (32.0, 32, 3)}, TypeError, "three integers"),
        ({"input_shape": (3, 32, 32)}, ValueError, r"channels first: use \(32, 32, 3\)"),
        ({"input_shape": (32, 32, 0)}, ValueError, "a channel or more"),
        ({"input_shape": "32"}, ValueError, "received '32'"),
    ],
)
def test_bad_arguments(keywords, error, words):
    with pytest.raises(error, match=words):
        models.build("resnet20", **keywords)


def test_an_unknown_option_gets_the_choices():
    with pytest.raises(ValueError, match="'A', 'B' or 'C'; received 'D'"):
        resnet.build("resnet20", (32, 32, 3), 10, option="D")


def test_float64_images_are_cast_and_a_wrong_rank_is_refused():
    model, images = small("resnet_mini")
    expected = ops.convert_to_numpy(model(images))
    logits = model(images.astype("float64"))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.allclose(ops.convert_to_numpy(logits), expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"(?i)rank|ndim|shape"):
        model(images[0, 0])


@pytest.mark.parametrize("name", [*MINIS, "lenet5", "lenet5_1998", "vgg16", "googlenet"])
def test_logits_are_float32_where_layers_compute_with_16_bits(name, set_dtype_policy):
    set_dtype_policy("mixed_bfloat16")
    model, _ = small(name)
    assert {keras.backend.standardize_dtype(output.dtype) for output in model.outputs} == {
        "float32"
    }
    assert "bfloat16" in {layer.compute_dtype for layer in model.layers if layer.count_params()}


def test_reading_the_registry_takes_no_keras():
    code = (
        "import sys, resnetlib.models; "
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
