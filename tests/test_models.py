"""Every architecture of the registry against the papers' counts, shapes and costs."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from resnetlib import models
from resnetlib.ledger import ledger
from resnetlib.models import MODELS

MINIS = [name for name in MODELS if name.endswith("_mini")]


@pytest.fixture(scope="module")
def built():
    """One model at a time, built once for the tests that only look at it."""
    cache = {}

    def get(name):
        if name not in cache:
            cache.clear()
            keras.backend.clear_session()
            cache[name] = models.build(name)
        return cache[name]

    return get


@pytest.mark.parametrize("name", MODELS)
def test_counts_shapes_and_costs(name, built):
    card, model = MODELS[name], built(name)
    book = ledger(model)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert (trainable, model.count_params()) == (card.trainable, card.total)
    assert (book.trainable, book.params, book.macs) == (card.trainable, card.total, card.macs)
    assert {layer: book[layer].output_shape for layer in card.stages} == card.stages
    assert model.name == name
    assert {output.shape for output in model.outputs} == {(None, card.classes)}
