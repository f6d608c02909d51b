"""The parts of fit's recipe: smoothed labels, augmentation, weight decay, averages, checkpoints."""

import json
import math
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from resnetlib import models, training
from resnetlib.recipe import Muon, SmoothedCrossentropy, flip_and_shift, one_cycle, orthogonal
from resnetlib.training import evaluate, fit


def images_and_labels(count=48, seed=0, shape=(6, 6, 1)):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *shape), dtype=np.uint8), random.integers(0, 3, count)


def network(*layers_before_flatten):
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [keras.Input((6, 6, 1)), *layers_before_flatten, layers.Flatten(), layers.Dense(3)]
    )


# --- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_smoothed_crossentropy_by_hand(share):
    # Logits (0, ln 3) are the probabilities 1/4 and 3/4; of two classes each gets share / 2.
    logits, labels = np.array([[0, math.log(3)]] * 2, "float32"), np.array([1, 0])
    right, wrong = 1 - share / 2, share / 2
    expected = [
        -right * math.log(3 / 4) - wrong * math.log(1 / 4),
        -right * math.log(1 / 4) - wrong * math.log(3 / 4),
    ]
    loss = SmoothedCrossentropy(share)
    assert float(loss(labels, logits)) == pytest.approx(np.mean(expected), rel=1e-6)
    assert keras.ops.convert_to_numpy(loss.call(labels[:, None], logits)) == pytest.approx(
        expected, rel=1e-6
    )


def test_without_smoothing_it_is_keras_own_crossentropy():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(20, 5)).astype("float32"), random.integers(0, 5, 20)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert float(SmoothedCrossentropy(0.0)(labels, logits)) == pytest.approx(
        float(theirs), rel=1e-6
    )


def test_the_loss_can_be_saved():
    saved = json.loads(json.dumps(keras.losses.serialize(SmoothedCrossentropy(0.2))))
    assert keras.losses.deserialize(saved).label_smoothing == 0.2


# --- augmentation --------------------------------------------------------------------------------


def shifted(image, down, right):
    """An oracle in loops: the image moved, zeros where nothing comes in."""
    moved = np.zeros_like(image)
    height, width = image.shape[:2]
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                moved[i, j] = image[i - down, j - right]
    return moved


@pytest.mark.parametrize("border", [0, 1, 2])
def test_flip_and_shift_gives_every_move_and_no_other(border):
    image = np.random.default_rng(0).integers(1, 256, (4, 5, 2), dtype=np.uint8)
    moves = range(-border, border + 1)
    allowed = {
        shifted(view, down, right).tobytes()
        for view in (image, image[:, ::-1])
        for down in moves
        for right in moves
    }
    changed = flip_and_shift(np.stack([image] * 3000), np.random.default_rng(1), border)
    assert (changed.shape, changed.dtype) == ((3000, 4, 5, 2), np.uint8)
    assert {view.tobytes() for view in changed} == allowed
    assert len(allowed) == 2 * (2 * border + 1) ** 2


def test_each_image_moves_on_its_own_and_follows_the_generator():
    images, _ = images_and_labels(200)
    once, again, other = (flip_and_shift(images, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert np.array_equal(images, images_and_labels(200)[0]), "the images it got stay as they were"


def test_fit_augments_each_batch_of_the_training_with_a_generator_of_its_own():
    seen = []

    def watch(images, rng):
        seen.append((len(images), images.dtype, int(rng.integers(10**9))))
        return images

    train, validation = images_and_labels(40), images_and_labels(24)
    fit(network(), train, validation, augment=watch, epochs=2, batch_size=16, seed=5)
    # Keras looks at a first batch once or twice before it starts; so these are among what we saw.
    expected = {
        (size, np.dtype("uint8"), int(np.random.default_rng((5, epoch, i)).integers(10**9)))
        for epoch in range(2)
        for i, size in enumerate([16, 16, 8])
    }
    assert len(expected) == 6
    assert expected <= set(seen)
    assert {size for size, *_ in seen} == {16, 8}, "no batch of the validation"


def test_an_augmentation_that_changes_the_shape_is_refused():
    with pytest.raises(Exception, match=r"uint8 of shape \(16, 6, 6, 1\).*\(16, 3, 6, 1\)"):
        fit(network(), images_and_labels(16), epochs=1, augment=lambda x, rng: x[:, ::2])


# --- weight decay and averages -------------------------------------------------------------------


def after_steps(optimizer, shape, gradients):
    """Return the weights, ones at first, after a step for each gradient."""
    weights = keras.Variable(np.ones(shape, "float32"))
    optimizer.build([weights])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient.reshape(shape))], [weights])
    return keras.ops.convert_to_numpy(weights)


def gradients_of(shape):
    return np.random.default_rng(1).normal(size=(4, *shape)).astype("float32")


@pytest.mark.skipif(not hasattr(keras.optimizers, "Muon"), reason="this Keras has no Muon")
@pytest.mark.parametrize("shape", [(3, 3, 5, 16), (1, 1, 6, 12)], ids=str)
def test_a_kernel_steps_as_its_matrix_does_in_keras_own_muon(shape):
    gradients, matrix = gradients_of(shape), (math.prod(shape[:3]), shape[3])
    ours = after_steps(Muon(0.01, weight_decay=0.02), shape, gradients)
    theirs = after_steps(keras.optimizers.Muon(0.01, weight_decay=0.02), matrix, gradients)
    assert ours.reshape(matrix) == pytest.approx(theirs, abs=1e-6)
    assert abs(ours - 1).max() > 0.005


@pytest.mark.parametrize("shape", [(7,), (6, 4), (3, 3, 5, 1)], ids=str)
def test_everything_else_steps_as_in_keras_own_adamw(shape):
    gradients = gradients_of(shape)
    ours = after_steps(Muon(0.01, weight_decay=0.02), shape, gradients)
    theirs = after_steps(keras.optimizers.AdamW(0.01, weight_decay=0.02), shape, gradients)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert abs(ours - 1).max() > 0.005


@pytest.mark.parametrize("shape", [(27, 16), (16, 27)], ids=str)
def test_orthogonal_keeps_the_singular_vectors(shape):
    matrix = np.random.default_rng(2).normal(size=shape).astype("float32")
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    result = keras.ops.convert_to_numpy(orthogonal(keras.ops.convert_to_tensor(matrix)))
    between = left.T @ result @ right.T  # diagonal if the singular vectors are the same
    values = np.diag(between)
    assert between == pytest.approx(np.diag(values), abs=1e-4)
    assert 0.6 < values.min() <= values.max() < 1.25


def test_only_kernels_decay():
    # With a rate of 0 gradients the loss moves nothing: what moves is the decay. The images are
    # zeros and each class comes equally often, so the kernel has no gradient.
    model = network(layers.Conv2D(2, 3, name="conv"), layers.BatchNormalization(name="bn"))
    model.get_layer("bn").gamma.assign([2.0, 3.0])
    images, labels = np.zeros((12, 6, 6, 1), "uint8"), np.tile([0, 1, 2], 4)
    before = {v.path: keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables}
    fit(model, (images, labels), epochs=1, batch_size=12, learning_rate=0.1, weight_decay=0.5)
    # One step at the peak of a schedule of one step: rate 0.1, so a kernel keeps 1 - 0.05.
    kernel = next(path for path in before if path.endswith("conv/kernel"))
    assert keras.ops.convert_to_numpy(model.get_layer("conv").kernel) == pytest.approx(
        0.95 * before[kernel], rel=1e-5
    )
    excluded = [
        v.name for v in model.trainable_variables if not model.optimizer._use_weight_decay(v)
    ]
    assert sorted(excluded) == ["beta", "bias", "bias", "gamma"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always uses XLA")
def test_xla_compiles_for_a_gpu_only():
    import tensorflow

    model = network()
    fit(model, images_and_labels(), epochs=1)
    assert model.jit_compile == bool(tensorflow.config.list_physical_devices("GPU"))


def test_training_ends_with_the_average_and_validates_it():
    weights = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append(self.model.get_weights()[0].copy())

    model, train, validation = network(), images_and_labels(96), images_and_labels(30, seed=1)
    watch, keras_fit = Watch(), model.fit
    model.fit = lambda *a, callbacks, **o: keras_fit(*a, callbacks=[watch, *callbacks], **o)
    history = fit(model, train, validation, epochs=10, batch_size=8, learning_rate=0.02)
    momentum, average = 1 - 1 / (0.05 * 120), weights[0]
    for each in weights[1:]:
        average = momentum * average + (1 - momentum) * each
    assert len(weights) == 120
    assert model.get_weights()[0] == pytest.approx(average, rel=1e-4, abs=1e-6)
    assert np.abs(average - weights[-1]).max() > 1e-5, "the average differs from the last weights"
    measured = evaluate(model, validation)
    assert history["val_loss"][-1] == pytest.approx(measured["loss"], rel=1e-6)


def test_a_short_training_is_not_averaged():
    model = network()
    fit(model, images_and_labels(32), epochs=2, batch_size=16)
    assert model.optimizer.ema_momentum == 0.0


def test_flips_at_test_time_are_the_mean_of_two_probabilities():
    images, labels = images_and_labels(20)
    plain, squashed = network(), network()
    squashed.add(layers.Softmax())
    squashed.set_weights(plain.get_weights())
    one, two = (
        keras.ops.convert_to_numpy(squashed(x.astype("float32") / 255))
        for x in (images, images[:, :, ::-1])
    )
    mean = (one + two) / 2
    loss = -np.mean(np.log(mean[np.arange(20), labels]))
    accuracy = np.mean(mean.argmax(axis=1) == labels)
    for model in (plain, squashed):
        assert evaluate(model, (images, labels), flips=True) == pytest.approx(
            {"loss": loss, "accuracy": accuracy}, rel=1e-5
        )
    assert evaluate(plain, (images, labels))["loss"] != pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing is at least 0 and below 1; received 1.0"),
        ({"label_smoothing": -0.1}, "received -0.1"),
        ({"weight_decay": -1}, "weight_decay is a number of at least 0; received -1"),
        ({"weight_decay": math.nan}, "received nan"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        fit(network(), images_and_labels(), **options)


@pytest.mark.parametrize(
    ("option", "words"),
    [("weight_decay", "its own weight decay"), ("label_smoothing", "its own label smoothing")],
)
def test_a_compiled_model_takes_nothing_of_the_recipe(option, words):
    model = network()
    model.compile("sgd", SmoothedCrossentropy())
    with pytest.raises(ValueError, match=f"{words}; leave {option} out.*received 0.5"):
        fit(model, images_and_labels(), **{option: 0.5})


# --- checkpoints ---------------------------------------------------------------------------------


class PowerCut(Exception):
    """What stops a training in these tests."""


def dropout_network():
    keras.utils.set_random_seed(7)  # before the layers are made: they draw their seeds
    return network(
        layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(),
        layers.Dropout(0.4, name="drop"),
    )


def cut_off_after(batches_left):
    def augment(images, rng):
        nonlocal batches_left
        batches_left -= 1
        if batches_left < 0:
            raise PowerCut("PowerCut")
        return flip_and_shift(images, rng, 1)

    return augment


OPTIONS = {"epochs": 5, "batch_size": 8, "learning_rate": 0.01, "seed": 3}


def numbers(history):
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history.epochs]


@pytest.mark.parametrize("batches", [2, 9, 15, 29], ids="{} batches".format)
def test_a_training_that_was_cut_off_ends_as_if_it_was_not(tmp_path, batches):
    train, validation = images_and_labels(48), images_and_labels(20, seed=1)
    whole = dropout_network()
    wanted = fit(whole, train, validation, augment=cut_off_after(10**6), **OPTIONS)

    file = tmp_path / "folder" / "training.npz"
    cut_off = OPTIONS | {"checkpoint": file, "augment": cut_off_after(batches)}
    with pytest.raises(Exception, match="PowerCut"):  # the backend wraps it
        fit(dropout_network(), train, validation, **cut_off)
    resumed = dropout_network()
    # Backends look at one batch or more before they train. Enough for that and for the epochs that
    # are left, but not for one epoch more.
    done = max(0, batches - 3) // 6
    going_on = cut_off | {"augment": cut_off_after(30 - 6 * done + 5)}
    found = fit(resumed, train, validation, **going_on)
    assert numbers(found) == numbers(wanted)
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert [path.name for path in file.parent.iterdir()] == ["training.npz"]


def test_a_finished_checkpoint_gives_its_result_at_once(tmp_path):
    train, file = images_and_labels(), tmp_path / "done.npz"
    first = dropout_network()
    wanted = fit(first, train, checkpoint=file, augment=cut_off_after(10**6), **OPTIONS)
    again = dropout_network()
    found = fit(again, train, checkpoint=file, augment=cut_off_after(2), **OPTIONS)
    assert numbers(found) == numbers(wanted)
    assert found.provenance["seconds"] > sum(wanted["seconds"]) - 0.1, (
        "with those of the first call"
    )
    for ours, theirs in zip(again.get_weights(), first.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 6}, "epochs 5, not 6"),
        ({"seed": 4}, "seed 3, not 4"),
        ({"learning_rate": 0.02}, "learning_rate 0.01, not 0.02"),
        ({"augment": flip_and_shift}, "augment None, not 'flip_and_shift'"),
        ({"augment": partial(flip_and_shift, border=4)}, r"not 'flip_and_shift\(border=4\)'"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_the_checkpoint_of_another_training_is_refused(tmp_path, changed, message):
    file = tmp_path / "run.npz"
    fit(dropout_network(), images_and_labels(), checkpoint=file, **OPTIONS)
    with pytest.raises(ValueError, match=message) as caught:
        fit(dropout_network(), images_and_labels(), checkpoint=file, **{**OPTIONS, **changed})
    assert "run.npz holds another training" in str(caught.value)
    assert "delete it or name another checkpoint" in str(caught.value)


def test_augmentations_have_names_of_their_own():
    """The same in each process, so without addresses."""

    class Shift:
        def __call__(self, images, rng):
            return images

    twins = [partial(function, border=1) for function in (flip_and_shift, one_cycle)]
    names = [*map(training._name, (flip_and_shift, *twins, partial(flip_and_shift, 1), Shift()))]
    assert names[:4] == [
        "flip_and_shift",
        "flip_and_shift(border=1)",
        "one_cycle(border=1)",
        "flip_and_shift(1)",
    ]
    assert names[4].endswith("<locals>.Shift")


def test_strided_images_and_labels_have_a_checkpoint_too(tmp_path):
    images, labels = images_and_labels()
    fit(
        dropout_network(),
        (images[::2], labels[::2]),
        checkpoint=tmp_path / "run.npz",
        **OPTIONS,
    )


def test_half_precision_starts_the_recipe_afresh_too(set_dtype_policy):
    """Keras wraps the optimizer there."""
    set_dtype_policy("mixed_float16")
    model = dropout_network()
    for _ in range(2):
        history = fit(model, images_and_labels(), **OPTIONS)
        assert history["learning_rate"][0] > 0.005
        assert history.provenance["optimizer"] == "Muon"


def test_other_data_another_network_and_broken_files_are_refused(tmp_path):
    file = tmp_path / "run.npz"
    fit(dropout_network(), images_and_labels(), checkpoint=file, **OPTIONS)
    with pytest.raises(ValueError, match=r"holds another training \(data \d+, not \d+\)"):
        fit(dropout_network(), images_and_labels(seed=9), checkpoint=file, **OPTIONS)
    with pytest.raises(ValueError, match="variables of other shapes"):
        fit(network(), images_and_labels(), checkpoint=file, **OPTIONS)
    with pytest.raises(ValueError, match=r"another training \(validation None, not \d+\)"):
        fit(dropout_network(), images_and_labels(), images_and_labels(), checkpoint=file, **OPTIONS)
    whole = file.read_bytes()
    for spoilt in (b"", b"no archive", whole[: len(whole) // 2]):
        file.write_bytes(spoilt)
        with pytest.raises(ValueError, match=r"run\.npz is no checkpoint of fit; delete it"):
            fit(dropout_network(), images_and_labels(), checkpoint=file, **OPTIONS)


def test_a_plain_network_is_no_residual_one_of_the_same_shapes(tmp_path):
    data, short = images_and_labels(8, shape=(28, 28, 1)), {"epochs": 1, "batch_size": 8}
    fit(models.build("plain_mini"), data, checkpoint=tmp_path / "run.npz", **short)
    with pytest.raises(ValueError, match=r"another training \(network \d+, not \d+\)"):
        fit(models.build("resnet_mini"), data, checkpoint=tmp_path / "run.npz", **short)


def test_a_compiled_training_with_other_settings_is_another_one(tmp_path):
    def compiled(rate, loss="sparse_categorical_crossentropy"):
        model = network(layers.Softmax())
        model.compile(keras.optimizers.SGD(rate), loss)
        return fit(model, images_and_labels(), epochs=2, checkpoint=tmp_path / "run.npz")

    first, again = compiled(0.1), compiled(0.1)
    assert numbers(first) == numbers(again)
    with pytest.raises(ValueError, match=r"settings .*0\.1\d*,.* not .*0\.2"):
        compiled(0.2)
    with pytest.raises(ValueError, match="loss 'sparse_categorical_crossentropy', not 'mse'"):
        compiled(0.1, "mse")


def test_numbers_of_numpy_can_be_kept_in_a_checkpoint(tmp_path):
    options = {"epochs": np.int64(1), "batch_size": np.int32(16), "learning_rate": np.float32(0.5)}
    history = fit(network(), images_and_labels(), checkpoint=tmp_path / "run.npz", **options)
    assert history.provenance["epochs"] == 1
    assert (tmp_path / "run.npz").exists()


SCRIPT = """
import sys, time
sys.path.insert(0, {folder!r})
from test_recipe import *
steps = 0
def slow(images, rng):
    global steps
    steps += 1
    time.sleep({pause})
    return flip_and_shift(images, rng, 1)
slow.__qualname__ = "same"
model = dropout_network()
history = fit(model, images_and_labels(48), augment=slow, checkpoint={file!r}, **OPTIONS)
print(numbers(history), [float(abs(w).sum()) for w in model.get_weights()])
print(steps, file=sys.stderr)
"""


def test_a_killed_process_leaves_a_checkpoint_to_go_on_from(tmp_path):
    def script(name, pause):
        values = {"folder": str(Path(__file__).parent), "file": str(tmp_path / name)}
        return [sys.executable, "-c", SCRIPT.format(pause=pause, **values)]

    def run(name):
        done = subprocess.run(script(name, 0), capture_output=True, text=True, check=True)
        return done.stdout, int(done.stderr.split()[-1])

    wanted, steps = run("a.npz")
    assert steps >= 30
    process = subprocess.Popen(script("b.npz", 0.1), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not (tmp_path / "b.npz").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "killed in the middle"
    found, steps = run("b.npz")
    assert found == wanted
    assert steps < 30, "an epoch at least was kept"
