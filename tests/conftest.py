"""What several test files need."""

import pytest


@pytest.fixture
def set_dtype_policy():
    """Keras' own function; what it set is undone after the test."""
    import keras  # here: most of the press' tests do without it

    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)
