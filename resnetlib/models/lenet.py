"""LeNet-5, as its paper has it and as it is told today (LeCun et al. 1998). Chapter 6."""

import keras
import numpy as np
from keras import layers, ops

from resnetlib.blocks import RBF, PartialConv2D, TrainableSubsampling, logits, scaled_tanh

# Standard deviation 1 / sqrt(fan-in), for a tanh (LeCun et al. 1998, "Efficient backprop").
LECUN = "lecun_normal"

# LeCun et al. 1998, table I: an X where a map of S2 (row) is read by a map of C3 (column).
TABLE_I = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)

# The classes' codes: 7×12 bitmaps, as in figure 3 of the paper. The drawing is ours.
DIGITS = """
..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ...###. ####### .##.... ####### ##...## ##...##
##...## .####.. ##...## .....## ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..##. ######. ##.###. ....##. .#####. ##..###
##...## ...##.. ...##.. ..####. ##..##. .....## ###..## ...##.. .#####. .###.##
##...## ...##.. ..##... .....## ####### .....## ##...## ...##.. ##...## .....##
##...## ...##.. .##.... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. .....## ##...## ..##... ##...## .....##
.##.##. .###### ####### ##...## ....##. ##...## ##...## .##.... ##...## ....##.
..###.. .###### ####### .#####. ....##. .#####. .#####. .##.... .#####. .####..
"""


def codes(classes: int) -> np.ndarray:
    """Return one code of 84 values, +1 for ink and −1 for paper, for each class: (classes, 84).

    The first ten are the digits' bitmaps, read row by row; any more are drawn at random from a
    fixed seed, the other choice that the paper names.
    Source: LeCun et al. 1998, section II.B and fig. 3. Taught in chapter 6.
    """
    rows = [line.split() for line in DIGITS.split("\n") if line]
    bitmaps = ["".join(column) for column in zip(*rows, strict=True)]
    drawn = [[1 if mark == "#" else -1 for mark in bitmap] for bitmap in bitmaps]
    others = np.random.default_rng(1998).choice((-1, 1), (max(0, classes - 10), 84))
    return np.concatenate([drawn, others])[:classes]


def lenet5_1998(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return minus the distances of F6 to the codes, after the paper's figure 2."""
    connections = [[mark == "X" for mark in row] for row in TABLE_I]
    x = layers.Conv2D(6, 5, kernel_initializer=LECUN, name="C1")(x)
    x = squash(x, name="C1")
    x = squash(TrainableSubsampling(name="S2")(x), name="S2")
    x = squash(PartialConv2D(connections, 5, name="C3")(x), name="C3")
    x = squash(TrainableSubsampling(name="S4")(x), name="S4")
    x = layers.Conv2D(120, 5, kernel_initializer=LECUN, name="C5")(x)
    x = layers.Flatten(name="flatten")(squash(x, name="C5"))
    x = squash(layers.Dense(84, kernel_initializer=LECUN, name="F6")(x), name="F6")
    return RBF(codes(classes), name="output")(x)


def squash(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Return the scaled tanh of `x` as a layer called `{name}_squash`."""
    return layers.Activation(scaled_tanh, name=f"{name}_squash")(x)


def lenet5(x: keras.KerasTensor, classes: int, padding: str = "valid") -> keras.KerasTensor:
    """Return logits of the modern reading: average pooling, every map read, a dense output."""
    x = layers.Conv2D(6, 5, padding=padding, activation="tanh", name="C1")(x)
    x = layers.AveragePooling2D(2, name="S2")(x)
    x = layers.Conv2D(16, 5, activation="tanh", name="C3")(x)
    x = layers.AveragePooling2D(2, name="S4")(x)
    x = layers.Conv2D(120, 5, activation="tanh", name="C5")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(84, "tanh", name="F6")(x)
    return logits(x, classes, name="output")


def lenet_mini(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Return the modern reading for 28×28: C1 pads two zeros on every side, which makes 32×32."""
    return lenet5(x, classes, padding="same")


NETWORKS = {"lenet5_1998": lenet5_1998, "lenet5": lenet5, "lenet_mini": lenet_mini}


def build(name: str, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the network `name` of this family with new weights."""
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, NETWORKS[name](inputs, classes), name=name)


@keras.saving.register_keras_serializable("resnetlib")
class PenaltyLoss(keras.losses.Loss):
    """The distance to the right class's code, averaged over the images.

    Labels (N,) integers, outputs (N, classes) of `lenet5_1998`: minus the distances.
    Nothing pushes a wrong class away; with codes that could move, all would become equal.
    Source: LeCun et al. 1998, eq. 8. Taught in chapter 6.
    """

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Return one distance for each image."""
        right = ops.cast(ops.reshape(y_true, (-1, 1)), "int32")
        return -ops.squeeze(ops.take_along_axis(y_pred, right, axis=1), axis=1)


@keras.saving.register_keras_serializable("resnetlib")
class DiscriminativeLoss(PenaltyLoss):
    """The distance to the right code, y, plus log(exp(-j) + the sum over classes of exp(-y)).

    j: above 0, a penalty that a "rubbish" class always has; wrong classes much farther away are
        left alone. The paper gives no value; 1 is ours.
    Labels and outputs as for PenaltyLoss. It is the cross-entropy of a softmax over the classes and
    a logit -j, and without j (to infinity) it is the cross-entropy that every later network has.
    Source: LeCun et al. 1998, eq. 9. Taught in chapter 6.
    """

    def __init__(self, j: float = 1.0, **keywords: object) -> None:
        """Take the penalty; keywords are Keras' own."""
        super().__init__(**keywords)
        if not j > 0:
            raise ValueError(f"j is a number above 0; received {j!r}")
        self.j = j

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Return one loss for each image."""
        with_rubbish = ops.pad(y_pred, ((0, 0), (0, 1)), constant_values=-self.j)
        return super().call(y_true, y_pred) + ops.logsumexp(with_rubbish, axis=1)

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "j": self.j}
