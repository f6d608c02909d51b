"""The engine of the experiments on a few embedded images: it learns, goes on, and reads."""

import json

import jax
import keras
import numpy as np
import pytest

from book.experiments import engine, shared
from book.experiments.plans import Run

RUN = Run("resnet_mini", "fashion_mnist", "sgd_one_cycle", 2, seed=0)
IMAGES = 1_280  # ten steps an epoch: JAX compiles for longer than it trains


@pytest.fixture(scope="module", autouse=True)
def few_images(tmp_path_factory):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "SIZES", {RUN.dataset: (IMAGES, 200)})
        patch.setattr(engine, "TEST_BATCH", 200)
        patch.setattr(engine, "SAVE_EVERY", 1)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a whole run, and its record."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, engine.train(RUN, folder)


def test_it_learns(finished):
    folder, record = finished
    assert {len(values) for values in record["history"].values()} == {RUN.epochs}
    assert all(np.isfinite(values).all() for values in record["history"].values())
    for measure in ("train_error", "train_loss"):
        first, last = record["history"][measure]
        assert last < first
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".npz"]


def test_a_finished_run_is_read(finished, monkeypatch):
    monkeypatch.delattr(shared, "sets")  # a training begins with it
    folder, record = finished
    assert engine.train(RUN, folder) == json.loads(json.dumps(record))


def test_a_run_that_was_cut_off_goes_on_to_the_same_end(finished, tmp_path, capsys):
    save = engine._save

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            engine.train(RUN, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    capsys.readouterr()
    again = engine.train(RUN, tmp_path)
    assert " 1/2 " not in capsys.readouterr().out
    folder, record = finished
    assert again["history"] == record["history"]
    assert again["test_error_with_flips"] == record["test_error_with_flips"]
    weights = [np.load(where / f"{RUN.name}.npz") for where in (tmp_path, folder)]
    for name in weights[1]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])


def test_flips_average_the_probabilities():
    """As in `training.evaluate`: the mean of the scores would take class 1."""
    straight, mirrored = [0.98, 0.0199, 0.0001], [1e-6, 0.4, 0.599999]
    model = keras.Sequential(
        [keras.Input((1, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3, use_bias=False)]
    )
    model.layers[-1].set_weights([np.log([straight, mirrored])])
    errors = engine._compile(RUN, model, None)[1]
    state = [[v.value for v in model.trainable_variables], [], []]
    images = np.tile(np.array([[[255], [0]]], np.uint8), (200, 1, 1, 1))
    for truth, flips, wrong in ((0, False, 0), (0, True, 0), (1, True, 1), (2, True, 1)):
        assert errors(state, images, np.full(200, truth), flips)[1] == wrong
