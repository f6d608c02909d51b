"""Train one network on a whole data set with Keras on JAX, and write down what happened.

The loop stands here, and not in `resnetlib.training`, because it lives on the device: an epoch is
one compiled call of JAX, with the images, their order and their augmentation inside it. On a GPU
that is many times as fast as a call a step. Nothing is chosen by the test error, which is only
written down.
"""

import json
import os
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

from book.experiments import shared
from book.experiments.plans import RECIPES, Recipe, Run
from resnetlib.recipe import one_cycle

BATCH = 128
TEST_BATCH = 1_000
PROBED_IMAGES = 512  # for the norms of the gradients
SAVE_EVERY = 10  # epochs


def train(run: Run, folder: Path) -> dict:
    """Return the record of a run; a finished one is read, a broken one goes on where it was.

    folder: keeps NAME.json, NAME.npz (the weights as float16) and, while the run lasts, NAME.part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if record := run.record(folder):
        return record
    circumstances = shared.circumstances()
    part = folder / f"{run.name}.part"
    images, labels, test_images, test_labels = (
        jnp.asarray(array)
        for dataset in shared.sets(run)
        for array in (dataset.images, dataset.labels)
    )
    model = shared.network(run, images.shape[1:], int(labels.max()) + 1)
    steps = shared.SIZES[run.dataset][0] // BATCH
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
    facts = {
        "parameters": model.count_params(),
        "history": {key: [epoch[key] for epoch in epochs] for key in epochs[0]},
        "test_error_with_flips": round(float(errors(state, test_images, test_labels, True)[1]), 5),
        "gradient_norms": norms,
        "seconds": round(spent, 1),
        **circumstances,
    }
    variables = (*model.trainable_variables, *model.non_trainable_variables)
    record = shared.keep(run, folder, variables, (*state[0], *state[1]), facts)
    part.unlink(missing_ok=True)
    return record


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    if recipe.schedule == "steps":
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [steps // 2, 3 * steps // 4], [recipe.rate, recipe.rate / 10, recipe.rate / 100]
        )
    else:
        rate = one_cycle(recipe.rate, steps)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=recipe.nesterov)


def _compile(run: Run, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> tuple:
    """Return three compiled functions: an epoch, the errors on a test set, gradient norms."""
    recipe = RECIPES[run.recipe]

    def forward(trainable, others, x, y):  # noqa: ANN001, ANN202
        logits, others = model.stateless_call(
            trainable, others, x.astype("float32") / 255, training=True
        )
        scores = jax.nn.log_softmax(logits)
        loss = -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=-1))
        return loss, (others, jnp.mean(jnp.argmax(logits, axis=-1) != y))

    slope = jax.value_and_grad(forward, has_aux=True)

    def step(state, x, y, key):  # noqa: ANN001, ANN202
        trainable, others, slots = state
        x = _augment(key, x, recipe)
        (loss, (others, wrong)), grads = slope(trainable, others, x, y)
        grads = [g + recipe.decay * w for g, w in zip(grads, trainable, strict=True)]
        trainable, slots = optimizer.stateless_apply(slots, grads, trainable)
        return [list(trainable), list(others), list(slots)], (loss, wrong)

    # The images are arguments: as constants they would be compiled into the program.
    @partial(jax.jit, donate_argnums=0)
    def one_epoch(state, key, images, labels):  # noqa: ANN001, ANN202
        order_key, crop_key = jax.random.split(key)
        steps = shared.SIZES[run.dataset][0] // BATCH
        order = jax.random.permutation(order_key, shared.SIZES[run.dataset][0])[: steps * BATCH]
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
                # The mean of the probabilities, as in training.evaluate.
                logits = jnp.logaddexp(jax.nn.log_softmax(logits), jax.nn.log_softmax(mirrored[0]))
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


def _save(part: Path, state: list, epochs: list, norms: dict, spent: float) -> None:
    leaves = {f"leaf{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(state))}
    note = json.dumps({"epochs": epochs, "norms": norms, "spent": spent})
    shared.write(part, lambda file: np.savez(file, note=np.asarray(note), **leaves))


def _resume(part: Path, state: list) -> tuple:
    with np.load(part) as saved:
        note = json.loads(str(saved["note"]))
        leaves, tree = jax.tree.flatten(state)
        leaves = [jnp.asarray(saved[f"leaf{i}"]) for i in range(len(leaves))]
    return jax.tree.unflatten(tree, leaves), note["epochs"], note["norms"], note["spent"]
