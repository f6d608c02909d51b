"""What the architectures share: convolution with batch norm, residual branches, shortcuts.

`x` is the trunk, `y` the residual branch. Every function takes and returns a tensor (N, H, W, C).
"""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

# The initial weights of every convolution before a ReLU (He et al. 2015, "Delving deep into
# rectifiers", eq. 10): a variance of 2 / fan-in. The derivation asks for no more than that; the
# paper draws a normal distribution, and the uniform one builds a ResNet-50 in two thirds the time.
HE = "he_uniform"

# The moving averages of batch normalisation. The papers give no constants; these are those of the
# residual networks' published code (facebook/fb.resnet.torch), which torchvision kept. Torch's
# momentum 0.1 is the share of the new value, Keras' 0.9 that of the old one.
BN_MOMENTUM = 0.9
BN_EPSILON = 1e-5

# The first gamma of the last batch norm in a residual branch. With 0 every block starts as the
# identity (Goyal et al. 2017, section 5.1); He et al. 2015 started with "ones".
LAST_GAMMA = "zeros"


def last_gamma(option: str) -> str:
    """Return the first gamma of the last batch norm, for a shortcut of this option.

    Option A must start with ones. The channels that it fills up with zeros would get 0 from the
    branch too, and ReLU passes no gradient at 0: they would stay 0 for ever. Taught in chapter 13.
    """
    return "ones" if option == "A" else LAST_GAMMA


def conv(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    strides: int = 1,
    *,
    name: str,
    groups: int = 1,
) -> keras.KerasTensor:
    """Return a convolution without bias that pads kernel_size // 2 zeros on every side.

    groups: each of so many equal parts of the channels is read by its own part of the filters.
    Keras' own "same" pads one side only when a stride of 2 meets an even size; the papers' code
    and torchvision pad both sides, and weights trained one way lose accuracy the other way.
    Result: (N, ceil(H / strides), ceil(W / strides), filters) for an odd kernel_size.
    """
    padding = "same"
    if strides > 1:
        padding = "valid"  # and, for a kernel of 1×1, nothing to pad
        if kernel_size > 1:
            x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    kind = layers.Conv2D if groups == 1 else GroupedConv2D
    return kind(
        filters,
        kernel_size,
        strides,
        padding,
        groups=groups,
        use_bias=False,
        kernel_initializer=HE,
        name=f"{name}_conv",
    )(x)


@keras.saving.register_keras_serializable("resnetlib")
class GroupedConv2D(layers.Conv2D):
    """Keras' Conv2D with groups, computed as one convolution for each group, side by side.

    TensorFlow has no gradient of a grouped convolution on a CPU. Keras lets XLA compile the layer
    there, which trains, ten times slower (two groups) to thirty times (32) than this; the weights
    and the outputs are the same.
    Source: Krizhevsky et al. 2012, fig. 2. Taught in chapter 7.
    """

    def convolution_op(
        self, inputs: keras.KerasTensor, kernel: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Cut the channels and the filters, convolve part by part, join the maps."""
        channels = ops.split(inputs, self.groups, axis=-1)
        filters = ops.split(kernel, self.groups, axis=-1)
        convolve = super().convolution_op
        parts = [convolve(c, f) for c, f in zip(channels, filters, strict=True)]
        return ops.concatenate(parts, axis=-1)


def batch_norm(x: keras.KerasTensor, *, name: str, gamma: str = "ones") -> keras.KerasTensor:
    """Return the batch normalisation of `x` (Ioffe and Szegedy 2015). Taught in chapter 10."""
    return layers.BatchNormalization(
        momentum=BN_MOMENTUM, epsilon=BN_EPSILON, gamma_initializer=gamma, name=f"{name}_bn"
    )(x)


def relu(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Return max(x, 0) as a layer called `{name}_relu`."""
    return layers.ReLU(name=f"{name}_relu")(x)


def conv_bn(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    strides: int = 1,
    *,
    name: str,
    gamma: str = "ones",
) -> keras.KerasTensor:
    """Return convolution, then batch normalisation, the pair that every network after 2015 uses."""
    return batch_norm(conv(x, filters, kernel_size, strides, name=name), name=name, gamma=gamma)


def conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel_size: int, strides: int = 1, *, name: str
) -> keras.KerasTensor:
    """Return convolution, batch normalisation, ReLU."""
    return relu(conv_bn(x, filters, kernel_size, strides, name=name), name=name)


def bn_relu(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Return batch normalisation, then ReLU: what comes before each convolution since 2016."""
    return relu(batch_norm(x, name=name), name=name)


def separable_conv_bn(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    """Return 3×3 in each channel alone, then 1×1 across channels, then batch normalisation.

    No ReLU stands between the two (Chollet 2017, section 4.7), so He's initial weights are for the
    second; the first keeps Keras' own. Taught in chapter 14.
    """
    x = layers.SeparableConv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        pointwise_initializer=HE,
        name=f"{name}_conv",
    )(x)
    return batch_norm(x, name=name)


def basic_branch(
    x: keras.KerasTensor, filters: int, strides: int = 1, *, name: str, gamma: str
) -> keras.KerasTensor:
    """Return two 3×3 convolutions, the first with the stride (He et al. 2015, fig. 5 left)."""
    y = conv_bn_relu(x, filters, 3, strides, name=f"{name}_a")
    return conv_bn(y, filters, 3, name=f"{name}_b", gamma=gamma)


def bottleneck_branch(
    x: keras.KerasTensor, filters: int, strides: int = 1, *, name: str, gamma: str
) -> keras.KerasTensor:
    """Return 1×1 reduce with the stride, 3×3, 1×1 expand by four (He et al. 2015, fig. 5 right)."""
    y = conv_bn_relu(x, filters, 1, strides, name=f"{name}_a")
    y = conv_bn_relu(y, filters, 3, name=f"{name}_b")
    return conv_bn(y, 4 * filters, 1, name=f"{name}_c", gamma=gamma)


def bottleneck_branch_v1_5(
    x: keras.KerasTensor, filters: int, strides: int = 1, *, name: str, gamma: str
) -> keras.KerasTensor:
    """Return the bottleneck with its stride on the 3×3, as torchvision and NVIDIA train it.

    A 1×1 with stride 2 never reads three quarters of its input; a 3×3 reads all of it.
    """
    y = conv_bn_relu(x, filters, 1, name=f"{name}_a")
    y = conv_bn_relu(y, filters, 3, strides, name=f"{name}_b")
    return conv_bn(y, 4 * filters, 1, name=f"{name}_c", gamma=gamma)


def check_option(option: str) -> None:
    """Raise a ValueError for what is no option of a shortcut."""
    if option not in ("A", "B", "C"):
        raise ValueError(f"option is 'A', 'B' or 'C'; received {option!r}")


def shortcut(
    x: keras.KerasTensor, filters: int, strides: int = 1, *, name: str, option: str = "B"
) -> keras.KerasTensor:
    """Return the trunk in the shape of the branch (He et al. 2015, section 3.3 and table 3).

    option: "A" subsamples and pads the new channels with zeros, without parameters; "B" projects
        by a 1×1 convolution with batch norm where the shape changes; "C" projects everywhere.
    """
    check_option(option)
    changes = strides > 1 or x.shape[-1] != filters
    if option == "C" or (option == "B" and changes):
        return conv_bn(x, filters, 1, strides, name=f"{name}_shortcut")
    return ZeroPadShortcut(filters, strides, name=f"{name}_shortcut")(x) if changes else x


def add_shortcut(
    x: keras.KerasTensor,
    y: keras.KerasTensor,
    strides: int = 1,
    *,
    name: str,
    option: str = "B",
) -> keras.KerasTensor:
    """Return relu(y + shortcut of x): the residual block's end (He et al. 2015, eq. 1 and 2).

    y: the branch, made with gamma=last_gamma(option): with option A, zeros would kill channels.
    """
    x = shortcut(x, y.shape[-1], strides, name=name, option=option)
    return relu(layers.Add(name=f"{name}_add")([y, x]), name=name)


@keras.saving.register_keras_serializable("resnetlib")
class ZeroPadShortcut(layers.Layer):
    """Option A: every `strides`-th pixel, and zeros for the channels that are new.

    Input (N, H, W, C), output (N, ceil(H / strides), ceil(W / strides), filters). The zeros stand
    on both sides, (filters - C) // 2 before the old channels: the paper leaves the place open, and
    so do the CIFAR weights that circulate.
    Source: He et al. 2015, section 3.3. Taught in chapter 12.
    """

    kernel_size = 1  # for the ledger: one pixel of the input

    def __init__(self, filters: int, strides: int = 1, **keywords: object) -> None:
        """Take the channels and the stride of the residual branch; keywords are Keras' own."""
        super().__init__(**keywords)
        self.filters, self.strides = filters, strides

    def build(self, input_shape: tuple) -> None:
        """Refuse to lose channels."""
        if input_shape[-1] > self.filters:
            raise ValueError(
                f"option A can only add channels; the trunk has {input_shape[-1]}, "
                f"the branch {self.filters}"
            )

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Subsample and pad."""
        missing = self.filters - x.shape[-1]
        channels = (missing // 2, missing - missing // 2)
        x = x[:, :: self.strides, :: self.strides]
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), channels))

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


def conv_relu(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    strides: int = 1,
    *,
    name: str,
    padding: int | None = None,
    groups: int = 1,
) -> keras.KerasTensor:
    """Return a convolution with bias and ReLU, the layer of the networks before batch norm.

    padding: zeros on every side; None takes kernel_size // 2, which keeps the size at stride 1.
    groups: each of so many equal parts of the channels is read by its own part of the filters.
    """
    padding = kernel_size // 2 if padding is None else padding
    same = strides == 1 and padding == kernel_size // 2  # then Keras pads both sides alike
    if padding and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    kind = layers.Conv2D if groups == 1 else GroupedConv2D
    return kind(
        filters,
        kernel_size,
        strides,
        "same" if same else "valid",
        groups=groups,
        activation="relu",
        kernel_initializer=HE,
        name=name,
    )(x)


def inception(
    x: keras.KerasTensor, widths: tuple[int, int, int, int, int, int], *, name: str
) -> keras.KerasTensor:
    """Return four views of `x` side by side: 1×1, 3×3, 5×5 and a maximum, the last three thinned.

    widths: filters in the order of the paper's table: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool
        projection. Result: (N, H, W, 1×1 + 3×3 + 5×5 + pool projection).
    Source: Szegedy et al. 2014, fig. 2b. Taught in chapter 9.
    """
    one, three_reduce, three, five_reduce, five, projection = widths
    a = conv_relu(x, one, 1, name=f"{name}_1x1")
    b = conv_relu(x, three_reduce, 1, name=f"{name}_3x3_reduce")
    b = conv_relu(b, three, 3, name=f"{name}_3x3")
    c = conv_relu(x, five_reduce, 1, name=f"{name}_5x5_reduce")
    c = conv_relu(c, five, 5, name=f"{name}_5x5")
    d = layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    d = conv_relu(d, projection, 1, name=f"{name}_pool_proj")
    return layers.Concatenate(name=name)([a, b, c, d])


@keras.saving.register_keras_serializable("resnetlib")
class LocalResponseNormalization(layers.Layer):
    """x / (k + alpha · the sum of x² over the n channels around each)^beta.

    Input and output (N, H, W, C); n is odd. The sum has fewer terms at the first and last channels.
    Computed in float32 and returned in the layer's dtype.
    Source: Krizhevsky et al. 2012, section 3.3; the defaults are theirs. Taught in chapter 7.
    """

    kernel_size = strides = 1  # for the ledger: each pixel alone

    def __init__(
        self,
        k: float = 2.0,
        n: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        **keywords: object,
    ) -> None:
        """Take the paper's four constants; keywords are Keras' own."""
        super().__init__(**keywords)
        if n < 1 or n % 2 == 0:
            raise ValueError(f"n is an odd number of channels, at least 1; received {n!r}")
        self.k, self.n, self.alpha, self.beta = k, n, alpha, beta

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Sum by a banded matrix, and take the power as exp(beta · log), both fast on a CPU."""
        wide = ops.cast(x, "float32")  # a square may leave the range of float16
        channel = ops.arange(x.shape[-1])
        near = ops.abs(channel[:, None] - channel) <= self.n // 2
        around = ops.matmul(ops.square(wide), ops.cast(near, "float32"))
        scale = ops.exp(-self.beta * ops.log(self.k + self.alpha * around))
        return ops.cast(wide * scale, self.compute_dtype)

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        constants = {"k": self.k, "n": self.n, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **constants}


@keras.saving.register_keras_serializable("resnetlib")
def scaled_tanh(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return 1.7159 · tanh(2x / 3), which maps −1, 0 and 1 to themselves (1 to 1.00001).

    Source: LeCun et al. 1998, eq. 6 and appendix A. Taught in chapter 6.
    """
    return 1.7159 * ops.tanh(2 / 3 * x)


@keras.saving.register_keras_serializable("resnetlib")
class TrainableSubsampling(layers.Layer):
    """The sum of each 2×2 window, times the map's coefficient, plus the map's bias.

    Input (N, H, W, C), output (N, H // 2, W // 2, C): two parameters a map. It starts as average
    pooling. The paper squashes the result, which is a layer of its own here.
    Source: LeCun et al. 1998, section II.B (layer S2). Taught in chapter 6.
    """

    pool_size = strides = 2  # for the ledger

    def build(self, input_shape: tuple) -> None:
        """Make one coefficient and one bias for each map."""
        quarter = keras.initializers.Constant(1 / 4)
        self.coefficient = self.add_weight(
            shape=input_shape[-1:], initializer=quarter, name="coefficient"
        )
        self.bias = self.add_weight(shape=input_shape[-1:], initializer="zeros", name="bias")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Scale and shift the sums."""
        sums = 4 * ops.average_pool(x, self.pool_size, self.strides, "valid")
        return self.coefficient * sums + self.bias

    def macs(self, input_shape: tuple, output_shape: tuple) -> int:
        """Return 0: pooling and scaling are not counted."""
        return 0


@keras.saving.register_keras_serializable("resnetlib")
class PartialConv2D(layers.Layer):
    """A convolution in which each filter reads only some of the input's maps.

    connections: rows of 0 and 1, one row for each of the C input maps and one column for each
        filter; 1 where the filter reads the map. kernel_size: side of the square window.
    Input (N, H, W, C), output (N, H - kernel_size + 1, W - kernel_size + 1, filters). The kernel
    has a window for each 1 of the table and nothing for a 0: (kernel_size, kernel_size, ones).
    Source: LeCun et al. 1998, section II.B and table I (layer C3). Taught in chapter 6.
    """

    strides = 1  # for the ledger

    def __init__(
        self, connections: Sequence[Sequence[int]], kernel_size: int, **keywords: object
    ) -> None:
        """Take the table and the side of the window; keywords are Keras' own."""
        super().__init__(**keywords)
        self.connections = [[int(mark) for mark in row] for row in connections]
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple) -> None:
        """Make a window for each connection, and note where it stands in the dense kernel."""
        table = np.array(self.connections, bool)
        maps, filters = table.shape
        if input_shape[-1] != maps:
            raise ValueError(
                f"connections has {maps} rows, one for each input map; "
                f"the input has {input_shape[-1]} maps"
            )
        ones, area = int(table.sum()), self.kernel_size**2
        # A 0 of the table points behind the last window, where call puts zeros.
        self.window = np.where(table, table.cumsum().reshape(table.shape) - 1, ones)
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, ones),
            # LeCun's rule, 1 / sqrt(fan-in), for the mean fan-in of a filter.
            initializer=keras.initializers.RandomNormal(stddev=(area * ones / filters) ** -0.5),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(filters,), initializer="zeros", name="bias")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Convolve with the dense kernel, in which missing connections are zeros."""
        windows = ops.pad(self.kernel, ((0, 0), (0, 0), (0, 1)))
        kernel = ops.take(windows, self.window, axis=2)
        return ops.conv(x, kernel, padding="valid") + self.bias

    def macs(self, input_shape: tuple, output_shape: tuple) -> int:
        """Return the connections' own: kernel weights times output positions."""
        return math.prod(self.kernel.shape) * math.prod(output_shape[:2])

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        arguments = {"connections": self.connections, "kernel_size": self.kernel_size}
        return {**super().get_config(), **arguments}


@keras.saving.register_keras_serializable("resnetlib")
class RBF(layers.Layer):
    """The negative squared distance between the features and each class's code: logits.

    codes: one row for each class, of as many numbers as the input has features. They are weights
    that no training moves. Input (N, J), output (N, classes), float32 and at most 0.
    The paper's output is the distance itself, a penalty, smallest for the class that fits; its
    negative is largest there, as a logit should be.
    Source: LeCun et al. 1998, eq. 7. Taught in chapter 6.
    """

    def __init__(self, codes: Sequence[Sequence[float]], **keywords: object) -> None:
        """Take the classes' codes; keywords are Keras' own."""
        super().__init__(**keywords)
        self.codes = [[float(value) for value in code] for code in codes]

    def build(self, input_shape: tuple) -> None:
        """Put the codes where a saved model keeps them."""
        shape = np.shape(self.codes)
        if input_shape[-1] != shape[1]:
            raise ValueError(
                f"each code has {shape[1]} numbers; the input has {input_shape[-1]} features"
            )
        codes = keras.initializers.Constant(np.array(self.codes, "float32"))
        self.centres = self.add_weight(
            shape=shape, initializer=codes, trainable=False, dtype="float32", name="codes"
        )

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Return minus the sum of squares over the features, in float32: it may pass 300."""
        difference = ops.cast(x, "float32")[:, None] - ops.cast(self.centres, "float32")
        return -ops.sum(ops.square(difference), axis=-1)

    def macs(self, input_shape: tuple, output_shape: tuple) -> int:
        """Return one square, multiplied and added up, for each feature and class."""
        return input_shape[-1] * output_shape[-1]

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "codes": self.codes}


def squeeze_excite(x: keras.KerasTensor, ratio: int = 16, *, name: str) -> keras.KerasTensor:
    """Return `x` with each channel scaled by a number between 0 and 1 that the image decides.

    ratio: the channels shrink by it between the two dense layers, both with biases.
    Source: Hu et al. 2018, fig. 2 and section 3. Taught in chapter 15.
    """
    channels = x.shape[-1]
    scale = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    scale = layers.Dense(
        max(1, channels // ratio), "relu", kernel_initializer=HE, name=f"{name}_reduce"
    )(scale)
    scale = layers.Dense(channels, "sigmoid", name=f"{name}_expand")(scale)
    return layers.Multiply(name=f"{name}_scale")([x, scale])


def classifier(x: keras.KerasTensor, classes: int, dropout: float = 0) -> keras.KerasTensor:
    """Return logits (N, classes): global average pooling, then one dense layer, called "fc".

    dropout: the share of the means that training drops between the two.
    """
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return logits(x, classes, name="fc")


def dense_classifier(
    x: keras.KerasTensor, units: Sequence[int], classes: int, *, first: int
) -> keras.KerasTensor:
    """Return logits (N, classes): flattening, dense layers with ReLU and dropout, one without.

    units: the width of each hidden layer. first: the number in the name of the first, as in "fc6".
    Source: Krizhevsky et al. 2012, section 3.5; VGG kept it.
    """
    x = layers.Flatten(name="flatten")(x)
    for number, width in enumerate(units, first):
        x = layers.Dense(width, "relu", kernel_initializer=HE, name=f"fc{number}")(x)
        x = layers.Dropout(0.5, name=f"drop{number}")(x)
    return logits(x, classes, name=f"fc{first + len(units)}")


def logits(x: keras.KerasTensor, classes: int, *, name: str) -> keras.KerasTensor:
    """Return the logits (N, classes) of a dense layer called `name`.

    They are float32 under any dtype policy: with 16 bits, classes would tie.
    """
    return layers.Dense(classes, dtype="float32", name=name)(x)
