"""fit, evaluate, predict and the one-cycle schedule against hand-computed numbers."""

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import layers

from resnetlib import training
from resnetlib.recipe import one_cycle
from resnetlib.training import History, evaluate, fit, predict


@dataclass
class Labelled:
    """What fit needs of a data.Dataset."""

    images: np.ndarray
    labels: np.ndarray


def stripes(count=64, seed=0):
    """Return images with a bright stripe in one of four places: easy to tell apart."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    images = random.integers(0, 100, (count, 8, 8, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label : 2 * label + 2] += 120
    return images, labels


def network(*tail, shape=(8, 8, 1), name=None):
    keras.utils.set_random_seed(7)
    tail = tail or (layers.Dense(4),)
    return keras.Sequential([keras.Input(shape), layers.Flatten(), *tail], name=name)


# one_cycle(1, 100, 0.3): from 1/25 in 30 steps up to 1, then half a cosine down in 70 steps.
@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.04),
        (15, 0.52),
        (30, 1.0),
        (30 + 70 // 2, 0.5),
        (30 + 70 / 3, 0.75),
        (99, (1 + math.cos(math.pi * 69 / 70)) / 2),
        (100, 0.0),
        (150, 0.0),
    ],
)
def test_one_cycle_by_hand(step, rate):
    assert float(one_cycle(1.0, 100)(step)) == pytest.approx(rate, abs=1e-6)
    assert float(one_cycle(0.02, 100)(step)) == pytest.approx(0.02 * rate, abs=1e-7)


def test_one_cycle_without_warmup_starts_at_its_peak():
    rates = [float(one_cycle(2.0, 10, warmup=0)(step)) for step in (0, 5, 10)]
    assert rates == pytest.approx([2, 1, 0], abs=1e-6)


def test_one_cycle_rises_then_falls_and_ends_near_zero():
    rates = np.array([float(one_cycle(0.1, 47)(step)) for step in range(47)])
    top = rates.argmax()
    assert (top, rates[top]) == (14, pytest.approx(0.1)), "0.3 · 47 = 14.1"
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)
    assert 0 < rates[-1] < 0.001 * rates[top] * 5


def test_one_cycle_can_be_saved():
    schedule = one_cycle(0.3, 20, warmup=0.25)
    schedules = keras.optimizers.schedules
    copy = schedules.deserialize(json.loads(json.dumps(schedules.serialize(schedule))))
    assert copy.get_config() == {"peak": 0.3, "total_steps": 20, "warmup": 0.25}
    assert [float(copy(i)) for i in range(21)] == [float(schedule(i)) for i in range(21)]


def test_a_trained_model_can_be_saved(tmp_path):
    model = network()
    fit(model, stripes(), epochs=1)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(predict(copy, stripes()[0]), predict(model, stripes()[0]))
    fit(copy, stripes(), epochs=1, learning_rate=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 10), "peak is a number above 0; received 0.0"),
        ((math.nan, 10), "peak is a number above 0; received nan"),
        ((1.0, 0), "total_steps is an integer of at least 1; received 0"),
        ((1.0, 2.5), "total_steps is an integer of at least 1; received 2.5"),
        ((1.0, 10, 1.0), "warmup is at least 0 and below 1; received 1.0"),
        ((1.0, 10, -0.1), "warmup is at least 0 and below 1; received -0.1"),
    ],
)
def test_one_cycle_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        one_cycle(*arguments)


def test_the_recipe_learns_and_history_says_how():
    model = network()
    history = fit(
        model,
        stripes(64),
        Labelled(*stripes(20, seed=1)),
        epochs=8,
        batch_size=16,
        learning_rate=0.05,
    )
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
    assert [list(epoch) for epoch in history.epochs] == [names] * 8
    assert all(type(value) is float for epoch in history.epochs for value in epoch.values())
    assert history["loss"][-1] < history["loss"][0]
    assert (history["accuracy"][-1], history["val_accuracy"][-1]) == (1.0, 1.0)
    assert evaluate(model, stripes(20, seed=1)) == pytest.approx(
        {"loss": history["val_loss"][-1], "accuracy": 1.0}, abs=1e-6
    )


def test_learning_rate_follows_the_cycle():
    # 64 images in batches of 16 are 4 steps an epoch, 20 in all, 2 of them to the peak: after 8
    # the cycle is at 1/3 of its fall, and (1 + cos 60°) / 2 = 3/4.
    history = fit(network(), stripes(64), epochs=5, batch_size=16, learning_rate=0.01)
    rates = history["learning_rate"]
    assert (rates[1], rates[-1]) == (pytest.approx(0.0075), pytest.approx(0, abs=1e-8))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow's own seed")
def test_tensorflow_keeps_its_prepared_graphs_between_epochs(monkeypatch):
    model, seeds = network(), []
    monkeypatch.setattr("tensorflow.random.set_seed", seeds.append)
    fit(model, stripes(), epochs=3)
    assert len(seeds) == 1  # each would throw the graphs away


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow's own dataset")
def test_tensorflow_reads_the_batches_without_its_autotuner(monkeypatch):
    # Its thread may sleep on after an epoch's last batch, for as long as the epoch took.
    seen = []
    for name in ("fit", "evaluate", "predict"):
        method = getattr(keras.Model, name)

        def spy(self, x, *rest, method=method, **options):
            seen.append(x)
            return method(self, x, *rest, **options)

        monkeypatch.setattr(keras.Model, name, spy)
    model, data = network(), stripes(40)
    fit(model, data, epochs=1, batch_size=16)
    evaluate(model, data, batch_size=16)
    predict(model, data[0])
    assert [len(batches) for batches in seen] == [3, 3, 1]
    assert [batches.options().autotune.enabled for batches in seen] == [False] * 3


def test_provenance():
    model = network()
    history = fit(model, stripes(40), epochs=1, batch_size=16, seed=5)
    facts = history.provenance
    assert (facts["seed"], facts["images"], facts["batch_size"]) == (5, 40, 16)
    assert facts["optimizer"] == "Muon"
    assert facts["versions"]["keras"] == keras.__version__
    assert {"python", "numpy", "resnetlib", keras.backend.backend()} <= set(facts["versions"])
    assert facts["cores"] >= 1
    assert facts["seconds"] >= history["seconds"][0] > 0
    assert "Linux" in facts["platform"] or sys.platform != "linux"
    json.dumps(facts)


def test_history_table_has_metrics_to_four_digits_and_no_times():
    epochs = [
        {"loss": 1.23456, "accuracy": 0.5, "learning_rate": 0.001, "seconds": 12.3},
        {"loss": 0.1, "accuracy": 0.98765, "learning_rate": 0.0, "seconds": 11.1},
    ]
    history = History(epochs, {})
    assert str(history).splitlines() == [
        "epoch    loss  accuracy",
        "-----------------------",
        "    1  1.2346    0.5000",
        "    2  0.1000    0.9877",
    ]
    page = history._repr_html_()
    assert '<th scope="row" style="text-align:right">2</th>' in page
    assert "0.9877</td>" in page
    assert "seconds" not in page + str(history)
    assert ("accuracy" in history, "val_accuracy" in history) == (True, False)
    assert repr(history) == "History(2 epochs of loss, accuracy, learning_rate, seconds)"
    with pytest.raises(KeyError, match="no metric 'val_loss'; this history has loss, accuracy"):
        history["val_loss"]


def recorded_orders(seed, count=10, epochs=3):
    """Return the order in which fit shows the images, each being its own class."""
    seen = []

    def loss(labels, outputs):
        seen.extend(keras.ops.convert_to_numpy(labels).ravel().astype(int).tolist())
        return keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)

    model = network(layers.Dense(count), shape=(1, 1, 1))
    model.compile("sgd", loss, run_eagerly=True)
    images = np.zeros((count, 1, 1, 1), "float32")
    fit(model, (images, np.arange(count)), epochs=epochs, batch_size=4, seed=seed)
    return [seen[i * count : (i + 1) * count] for i in range(epochs)]


def test_each_epoch_shows_each_image_once_in_a_new_order():
    first = recorded_orders(seed=1)
    assert [sorted(order) for order in first] == [list(range(10))] * 3
    assert len(set(map(tuple, first))) == 3
    assert recorded_orders(seed=2)[0] != first[0]
    generators = [np.random.default_rng((1, epoch)) for epoch in range(3)]
    assert first == [generator.permutation(10).tolist() for generator in generators]


def test_code_that_draws_from_a_global_generator_follows_the_seed():
    def run(before, seed):
        keras.utils.set_random_seed(7)
        model = network(layers.Lambda(lambda x: x + np.random.normal()), layers.Dense(4))
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        keras.utils.set_random_seed(before)
        return fit(model, stripes(8), epochs=1, seed=seed)["loss"]

    assert run(3, seed=1) == run(4, seed=1) != run(3, seed=2)


SCRIPT = """
import hashlib, keras, numpy as np
from keras import layers
from resnetlib.training import fit
keras.utils.set_random_seed(3)
random = np.random.default_rng(0)
images = random.integers(0, 256, (200, 12, 12, 3), dtype=np.uint8)
model = keras.Sequential([
    keras.Input((12, 12, 3)), layers.Conv2D(8, 3, strides=2), layers.BatchNormalization(),
    layers.ReLU(), layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.3), layers.Dense(5),
])
history = fit(model, (images, random.integers(0, 5, 200)), epochs=2, batch_size=32, seed=4)
digest = hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
print(history["loss"], history["accuracy"], digest)
"""


def test_a_fresh_process_gives_the_same_history_and_weights(capsys):
    fresh = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    exec(SCRIPT, {})
    assert capsys.readouterr().out == fresh.stdout
    assert re.search(r"[0-9a-f]{64}$", fresh.stdout.strip())


def test_uint8_images_are_scaled_to_one():
    images, labels = stripes(32)
    runs = [
        fit(network(), (pixels, labels), epochs=2)["loss"]
        for pixels in (images, images / 255, (images / 255).astype("float32"))
    ]
    assert runs[0] == pytest.approx(runs[1], abs=1e-6)
    assert runs[0] == pytest.approx(runs[2], abs=1e-6)
    whole = predict(
        network(layers.Identity(), shape=(1, 1, 3)), np.array([[[[0, 51, 255]]]], "uint8")
    )
    assert whole.dtype == np.float32
    assert whole.tolist() == pytest.approx(np.array([[0, 0.2, 1]]))


def test_a_compiled_model_keeps_its_optimizer_and_loss():
    model = network(layers.Dense(4, activation="softmax"))
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    optimizer = model.optimizer
    history = fit(model, stripes(), epochs=2)
    assert model.optimizer is optimizer
    assert history["learning_rate"] == [0.5, 0.5]
    assert history.provenance["optimizer"] == "SGD"
    assert list(history) == ["loss", "learning_rate", "seconds"]
    with pytest.raises(ValueError, match=r"is compiled and keeps its own learning rate.*0\.1"):
        fit(model, stripes(), learning_rate=0.1)


def test_a_second_fit_starts_the_recipe_afresh():
    model = network()
    for _ in range(2):
        before = model.get_weights()[0]
        history = fit(model, stripes(), epochs=1, batch_size=16, learning_rate=0.02)
        assert history["learning_rate"] == [0.0]
        assert np.abs(model.get_weights()[0] - before).max() > 1e-3


def test_an_unbuilt_sequential_model_is_built():
    model = keras.Sequential([layers.Flatten(), layers.Dense(4)])
    assert len(fit(model, stripes(), epochs=1).epochs) == 1


def test_one_sigmoid_tells_two_classes_apart():
    model = network(layers.Dense(1, activation="sigmoid"))
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    images, labels = stripes()
    assert "accuracy" in fit(model, (images, labels % 2), epochs=1)
    with pytest.raises(ValueError, match=r"flips needs an output for each class; model .* has 1"):
        evaluate(model, (images, labels % 2), flips=True)


# Logits (0, ln 3) are the probabilities 1/4 and 3/4.
@pytest.mark.parametrize(
    "tail", [layers.Identity(), layers.Softmax(), layers.Activation("softmax")], ids=str
)
@pytest.mark.parametrize("compiled", [False, True])
def test_evaluate_by_hand(tail, compiled):
    model = network(tail, shape=(1, 1, 2))
    if compiled:
        logits = isinstance(tail, layers.Identity)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
        model.compile("sgd", loss, metrics=["accuracy"])
    images = np.tile(np.array([0, math.log(3)], "float32"), (3, 1, 1, 1))
    scores = evaluate(model, (images, np.array([1, 1, 0])), batch_size=2)
    mean = -(2 * math.log(3 / 4) + math.log(1 / 4)) / 3
    assert scores == pytest.approx({"loss": mean, "accuracy": 2 / 3}, abs=1e-6)
    assert list(scores) == ["loss", "accuracy"]
    assert model.compiled is compiled, "measuring changes nothing"


def test_predict_gives_what_the_model_gives_in_order():
    images = np.arange(600, dtype="float32").reshape(600, 1, 1, 1) / 600
    outputs = predict(network(layers.Identity(), shape=(1, 1, 1)), images)
    assert np.array_equal(outputs, images.reshape(600, 1)), "600 images are three batches"


def test_bfloat16_learns_as_well_and_is_judged_in_float32(set_dtype_policy):
    set_dtype_policy("mixed_bfloat16")
    images, labels = stripes()
    model = network()  # ends in bfloat16
    fit(model, (images, labels), epochs=30, batch_size=16, learning_rate=0.02)
    assert evaluate(model, (images, labels))["accuracy"] == 1
    assert all(weight.dtype == np.float32 for weight in model.get_weights())
    scores = predict(model, images)
    assert scores.dtype == np.float32
    # The mean of both softmaxes by NumPy: with the 8 bits of bfloat16 it would be off by 1e-3.
    mirrored = predict(model, images[:, :, ::-1])
    both = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (scores, mirrored)]
    loss = -np.log((both[0] + both[1])[range(len(labels)), labels] / 2).mean()
    flipped = evaluate(model, (images, labels), flips=True)
    assert flipped["loss"] == pytest.approx(loss, rel=1e-5)


def test_a_loss_that_is_no_number_stops_at_once():
    model = network(layers.Dense(8), layers.Dense(4))
    model.compile(
        keras.optimizers.SGD(1e30), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    with pytest.raises(FloatingPointError) as caught:
        fit(model, stripes(), epochs=3, batch_size=16)
    message = str(caught.value)
    assert re.match(
        r"the loss in step [234] of epoch 1 is (nan|inf) at learning rate 1e\+30", message
    )
    assert "lower the learning rate" in message


def test_a_validation_loss_that_is_no_number_stops():
    images, labels = stripes()
    spoilt = np.where(images == images[0, 0, 0, 0], np.nan, images).astype("float32")
    with pytest.raises(FloatingPointError, match=r"the validation loss of epoch 1 is nan"):
        fit(network(), (images, labels), (spoilt, labels), epochs=1)


IMAGES, LABELS = stripes(8)
BAD = {
    "softmax": (
        lambda: network(layers.Dense(4, activation="softmax"), name="m"),
        ({}, (IMAGES, LABELS)),
        "last layer of model 'm' gives probabilities.*leave the final softmax or sigmoid out, or",
    ),
    "softmax layer": (
        lambda: network(layers.Dense(4), layers.Softmax(), name="m"),
        ({}, (IMAGES, LABELS)),
        "'m' gives probabilities",
    ),
    "softmax unbuilt": (
        lambda: keras.Sequential([layers.Flatten(), layers.Dense(4, "softmax")], name="m"),
        ({}, (IMAGES, LABELS)),
        "'m' gives probabilities",
    ),
    "softmax within": (
        lambda: keras.Sequential(
            [keras.Input((8, 8, 1)), network(layers.Dense(4), layers.Activation("softmax"))]
        ),
        ({}, (IMAGES, LABELS)),
        "gives probabilities",
    ),
    "softmax operation": (
        lambda: keras.Model(
            x := keras.Input((8, 8, 1)), keras.ops.softmax(layers.Dense(4)(layers.Flatten()(x)))
        ),
        ({}, (IMAGES, LABELS)),
        "gives probabilities",
    ),
    "lengths": (
        network,
        ({}, (IMAGES, LABELS[:5])),
        "train needs as many images as labels; received 8 images and 5 labels",
    ),
    "no image": (network, ({}, (IMAGES[:0], LABELS[:0])), r"at least one image.*\(0, 8, 8, 1\)"),
    "label too high": (
        lambda: network(name="m"),
        ({}, (IMAGES, np.arange(8))),
        "'m' tells 4 classes apart, so train labels are 0 to 3; received 0 to 7",
    ),
    "label negative": (network, ({}, (IMAGES, LABELS - 9)), "labels are 0 to 3; received -"),
    "label too high in validation": (
        network,
        ({"validation": (IMAGES, np.full(8, 4))}, (IMAGES, LABELS)),
        "validation labels are 0 to 3; received 4 to 4",
    ),
    "one-hot": (
        network,
        ({}, (IMAGES, np.eye(4)[LABELS])),
        r"integers of shape \(N,\); received float64 of shape \(8, 4\); np.argmax",
    ),
    "no channel": (
        lambda: network(name="m"),
        ({}, (IMAGES[..., 0], LABELS)),
        r"'m' takes train images of shape \(N, 8, 8, 1\); received \(8, 8, 8\); images\[..., N",
    ),
    "wrong size": (
        network,
        ({}, (IMAGES[:, 1:], LABELS)),
        r"shape \(N, 8, 8, 1\); received \(8, 7, 8, 1\)$",
    ),
    "wrong size in validation": (
        network,
        ({"validation": (IMAGES[:, 1:], LABELS)}, (IMAGES, LABELS)),
        r"takes validation images of shape",
    ),
    "integers": (network, ({}, (IMAGES.astype("int32"), LABELS)), "uint8 or float; received int32"),
    "no pair": (network, ({}, IMAGES), r"train is a data.Dataset or a pair.*received ndarray"),
    "no model": (lambda: layers.Dense(4), ({}, (IMAGES, LABELS)), "keras.Model; received Dense"),
    "two outputs": (
        lambda: keras.Model(x := keras.Input((8, 8, 1)), [x, x], name="m"),
        ({}, (IMAGES, LABELS)),
        "'m' must be .* with one input and one output",
    ),
    "no epoch": (network, ({"epochs": 0}, (IMAGES, LABELS)), "epochs is an integer.*received 0"),
    "part of an epoch": (network, ({"epochs": 0.5}, (IMAGES, LABELS)), "epochs is .*received 0.5"),
    "no batch": (network, ({"batch_size": 0}, (IMAGES, LABELS)), "batch_size is .*received 0"),
    "no rate": (network, ({"learning_rate": 0}, (IMAGES, LABELS)), "learning_rate is .*received 0"),
    "nan rate": (network, ({"learning_rate": math.nan}, (IMAGES, LABELS)), "received nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_name_the_remedy(case):
    build, (options, train), message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message):
        fit(build(), train, **options)


def test_evaluate_and_predict_check_their_images():
    with pytest.raises(ValueError, match=r"received \(8, 8, 1\); images\[None\] makes a batch"):
        predict(network(), IMAGES[0])
    with pytest.raises(ValueError, match="dataset labels are 0 to 3; received 4 to 4"):
        evaluate(network(), (IMAGES, np.full(8, 4)))
    with pytest.raises(ValueError, match="batch_size is an integer"):
        evaluate(network(), (IMAGES, LABELS), batch_size=0)


def test_the_bar_shows_steps_metrics_and_time(monkeypatch, capsys):
    clock = iter([100.0, 100.1, 120.0, 120.0, 140.0, 160.0, 160.0])
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(training, "_live", lambda: True)
    bar = training._Bar(epochs=2, steps=10)
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.on_train_batch_end(0, {"loss": 9.0})  # 0.1 s after the start: too soon to write again
    bar.on_train_batch_end(4, {"accuracy": 0.25, "loss": 2.0})
    bar.on_epoch_end(0, {"loss": 1.5})
    bar.on_epoch_begin(1)
    bar.on_train_batch_end(4, {"loss": 1.0})
    written = capsys.readouterr()
    assert written.out == ""
    long = "epoch 1/2 ######...... 5/10  loss 2.000  accuracy 0.250  0:20, 1:00 left"
    short = "epoch 1/2 ############ 10/10  loss 1.500  0:40, 0:40 left"
    last = "epoch 2/2 ######...... 5/10  loss 1.000  1:00, 0:20 left"
    assert written.err == f"\r{long}\r{short.ljust(len(long))}\n\r{last}"


def test_fit_writes_to_stderr_only_when_asked(monkeypatch, capsys):
    monkeypatch.delenv("RESNETLIB_PROGRESS", raising=False)
    model = network()
    fit(model, stripes(8), epochs=1)
    assert capsys.readouterr() == ("", "")
    fit(model, stripes(8), epochs=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    # Into a file: whole epochs only, each on a line of its own.
    line = r"epoch {}/2 ############ 1/1  loss \d\.\d{{3}}  accuracy \d\.\d{{3}}  \S+, \S+ left\n"
    assert re.fullmatch(line.format(1) + line.format(2), err)


@pytest.mark.parametrize(
    ("terminal", "module", "variable", "progress", "shown"),
    [
        (True, "io", "", None, True),
        (False, "ipykernel.iostream", "", None, True),
        (False, "io", "", None, False),
        (False, "io", "", True, True),
        (True, "io", "", False, False),
        (True, "io", "0", None, False),
        (True, "io", "0", True, False),
        (True, "io", "1", None, True),
    ],
)
def test_when_progress_is_shown(monkeypatch, terminal, module, variable, progress, shown):
    monkeypatch.setenv("RESNETLIB_PROGRESS", variable)
    stream = type("Stream", (), {"__module__": module, "isatty": lambda self: terminal})()
    monkeypatch.setattr(sys, "stderr", stream)
    assert training._shows(progress) is shown
