"""Train one network on the whole of a data set, on a GPU or a CPU, and write down what happened.

The loop stands here, and not in `resnetlib.training`, because it lives on the device: an epoch is
one compiled call of JAX, with the images, their order and their augmentation inside it. On a GPU
that is many times as fast as a call a step. Nothing is chosen by the test error, which is only
written down.
"""

import json
import os
import subprocess
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

from book.experiments.plans import RECIPES, Recipe, Run
from resnetlib import data, models, training
from resnetlib.models import resnet
from resnetlib.recipe import one_cycle

BATCH = 128
TEST_BATCH = 1_000
PROBED_IMAGES = 512  # for the norms of the gradients
SAVE_EVERY = 10  # epochs
WHOLE = {"cifar10": 50_000, "fashion_mnist": 60_000}
SETS = {"cifar10": data.cifar10, "fashion_mnist": data.fashion_mnist}


def train(run: Run, folder: Path) -> dict:
    """Return the record of a run; a finished one is read, a broken one goes on where it was.

    folder: keeps NAME.json, NAME.npz (the weights as float16) and, while the run lasts, NAME.part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record_file, part = folder / f"{run.name}.json", folder / f"{run.name}.part"
    if record_file.exists():
        return json.loads(record_file.read_text())
    images, labels, test_images, test_labels = _arrays(run)
    model = _model(run, images.shape[1:], int(labels.max()) + 1)
    steps = WHOLE[run.dataset] // BATCH
    optimizer = _optimizer(RECIPES[run.recipe], run.epochs * steps)
    optimizer.build(model.trainable_variables)
    state = [
        [jnp.asarray(v.value) for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
    ]
    epochs, norms, spent = [], {}, 0.0
    if part.exists():
        state, epochs, norms, spent = _resume(part, state)
    one_epoch, errors, gradient_norms = _compile(run, model, optimizer)
    probed = [v.path for v in model.trainable_variables if v.path.endswith("kernel")]
    while len(epochs) < run.epochs:
        start, number = time.perf_counter(), len(epochs)
        if number in run.probe:
            values = map(
                float, gradient_norms(state, images[:PROBED_IMAGES], labels[:PROBED_IMAGES])
            )
            norms[number] = dict(zip(probed, values, strict=True))
        key = jax.random.fold_in(jax.random.key(run.seed), number)
        state, (loss, wrong) = one_epoch(state, key, images, labels)
        test_loss, test_wrong = errors(state, test_images, test_labels)
        epochs.append(
            {
                "train_loss": round(float(loss), 5),
                "train_error": round(float(wrong), 5),
                "test_loss": round(float(test_loss), 5),
                "test_error": round(float(test_wrong), 5),
            }
        )
        if not np.isfinite(epochs[-1]["train_loss"]):
            raise FloatingPointError(f"{run.name}: the loss of epoch {number + 1} is not finite")
        spent += time.perf_counter() - start
        left = spent / len(epochs) * (run.epochs - len(epochs))
        print(
            f"{run.name} {len(epochs)}/{run.epochs} train error {epochs[-1]['train_error']:.4f} "
            f"test error {epochs[-1]['test_error']:.4f}, {spent:.0f} s, {left:.0f} s left",
            flush=True,
        )
        if len(epochs) % SAVE_EVERY == 0:
            _save(part, state, epochs, norms, spent)
    record = {
        **asdict(run),
        "parameters": model.count_params(),
        "history": {key: [epoch[key] for epoch in epochs] for key in epochs[0]},
        "test_error_with_flips": round(float(errors(state, test_images, test_labels, True)[1]), 5),
        "gradient_norms": norms,
        "seconds": round(spent, 1),
        **_circumstances(),
    }
    _write(folder / f"{run.name}.npz", lambda file: np.savez(file, **_weights(model, state)))
    _write(record_file, lambda file: file.write(json.dumps(record).encode()))
    part.unlink(missing_ok=True)
    return record


def _arrays(run: Run) -> tuple:
    train_set, test_set = SETS[run.dataset](WHOLE[run.dataset], 10_000)
    if run.images:
        train_set = train_set[: run.images]
    return tuple(
        jnp.asarray(array)
        for array in (train_set.images, train_set.labels, test_set.images, test_set.labels)
    )


def _model(run: Run, shape: tuple, classes: int) -> keras.Model:
    keras.utils.set_random_seed(run.seed)
    if run.option:
        model = resnet.build(run.network, shape, classes, option=run.option)
    else:
        model = models.build(run.network, input_shape=shape, classes=classes)
    if run.last_gamma:
        for layer in model.layers:
            if layer.name.endswith("_b_bn"):
                layer.gamma.assign(keras.initializers.get(run.last_gamma)(layer.gamma.shape))
    return model


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    if recipe.schedule == "steps":
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [steps // 2, 3 * steps // 4], [recipe.rate, recipe.rate / 10, recipe.rate / 100]
        )
    else:
        rate = one_cycle(recipe.rate, steps)
    if recipe.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.decay)
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        return optimizer
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=recipe.optimizer == "nesterov")


def _compile(run: Run, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> tuple:
    """Return three compiled functions: an epoch, the errors on a test set, gradient norms."""
    recipe = RECIPES[run.recipe]
    classes = model.output_shape[-1]
    coupled = 0.0 if recipe.optimizer == "adamw" else recipe.decay

    def forward(trainable, others, x, y):  # noqa: ANN001, ANN202
        logits, others = model.stateless_call(
            trainable, others, x.astype("float32") / 255, training=True
        )
        target = jax.nn.one_hot(y, classes) * (1 - recipe.smoothing) + recipe.smoothing / classes
        loss = -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1))
        return loss, (others, jnp.mean(jnp.argmax(logits, axis=-1) != y))

    slope = jax.value_and_grad(forward, has_aux=True)

    def step(state, x, y, key):  # noqa: ANN001, ANN202
        trainable, others, slots = state
        x = _augment(key, x, recipe)
        (loss, (others, wrong)), grads = slope(trainable, others, x, y)
        grads = [g + coupled * w for g, w in zip(grads, trainable, strict=True)]
        trainable, slots = optimizer.stateless_apply(slots, grads, trainable)
        return [list(trainable), list(others), list(slots)], (loss, wrong)

    # The images are arguments: as constants they would be compiled into the program.
    @partial(jax.jit, donate_argnums=0)
    def one_epoch(state, key, images, labels):  # noqa: ANN001, ANN202
        order_key, crop_key = jax.random.split(key)
        steps = WHOLE[run.dataset] // BATCH
        order = jax.random.permutation(order_key, WHOLE[run.dataset])[: steps * BATCH]
        keys = jax.random.split(crop_key, steps)

        def chosen_step(state, chosen_and_key):  # noqa: ANN001, ANN202
            chosen, key = chosen_and_key[0] % len(images), chosen_and_key[1]
            return step(state, images[chosen], labels[chosen], key)

        state, numbers = jax.lax.scan(chosen_step, state, (order.reshape(steps, BATCH), keys))
        return state, jax.tree.map(jnp.mean, numbers)

    @jax.jit
    def probe(state, x, y):  # noqa: ANN001, ANN202
        grads = slope(state[0], state[1], x, y)[1]
        pairs = zip(model.trainable_variables, grads, strict=True)
        return [jnp.linalg.norm(g) for v, g in pairs if v.path.endswith("kernel")]

    def test(state, x, y, flips=False):  # noqa: ANN001, ANN202
        def batch(_, pair):  # noqa: ANN001, ANN202
            x, y = pair[0].astype("float32") / 255, pair[1]
            logits = model.stateless_call(state[0], state[1], x, training=False)[0]
            if flips:
                mirrored = model.stateless_call(state[0], state[1], x[:, :, ::-1], training=False)
                logits = jax.nn.log_softmax(logits) + jax.nn.log_softmax(mirrored[0])
            scores = jax.nn.log_softmax(logits)
            loss = -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=-1))
            return None, (loss, jnp.mean(jnp.argmax(logits, axis=-1) != y))

        folded = jax.tree.map(lambda a: a.reshape(-1, TEST_BATCH, *a.shape[1:]), (x, y))
        return jax.tree.map(jnp.mean, jax.lax.scan(batch, None, folded)[1])

    return one_epoch, jax.jit(test, static_argnums=3), probe


def _augment(key: jax.Array, x: jax.Array, recipe: Recipe) -> jax.Array:
    """Return the images (N, H, W, C) shifted by up to `border` pixels and mirrored at random."""
    flip_key, crop_key = jax.random.split(key)
    flip = jax.random.bernoulli(flip_key, shape=(len(x), 1, 1, 1))
    x = jnp.where(flip, x[:, :, ::-1], x)
    border, shape = recipe.border, x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    corners = jax.random.randint(crop_key, (len(x), 2), 0, 2 * border + 1)
    crop = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), shape))
    return crop(padded, corners)


def _weights(model: keras.Model, state: list) -> dict[str, np.ndarray]:
    """Return the weights by their path, as float16, without the states of random generators."""
    variables = (*model.trainable_variables, *model.non_trainable_variables)
    pairs = zip(variables, (*state[0], *state[1]), strict=True)
    return {v.path: np.asarray(a, "float16") for v, a in pairs if "seed" not in v.path}


def _save(part: Path, state: list, epochs: list, norms: dict, spent: float) -> None:
    leaves = {f"leaf{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(state))}
    note = json.dumps({"epochs": epochs, "norms": norms, "spent": spent})
    _write(part, lambda file: np.savez(file, note=np.asarray(note), **leaves))


def _resume(part: Path, state: list) -> tuple:
    with np.load(part) as saved:
        note = json.loads(str(saved["note"]))
        leaves, tree = jax.tree.flatten(state)
        leaves = [jnp.asarray(saved[f"leaf{i}"]) for i in range(len(leaves))]
    return jax.tree.unflatten(tree, leaves), note["epochs"], note["norms"], note["spent"]


def _write(path: Path, write) -> None:  # noqa: ANN001
    """Write a file by one rename: it is whole or not there."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        write(file)
    new.replace(path)


def _circumstances() -> dict:
    """Return where the run took place, without names of machines."""
    device = jax.devices()[0]
    commit = (
        os.environ.get("COMMIT")
        or subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
    )
    return {
        "hardware": device.device_kind if device.platform != "cpu" else f"{training.cores()} cores",
        "versions": training.versions(),
        "commit": commit,
    }
