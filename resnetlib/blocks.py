"""What the architectures share: convolution with batch norm, residual branches, shortcuts.

`x` is the trunk, `y` the residual branch. Every function takes and returns a tensor (N, H, W, C).
"""

import keras
from keras import layers, ops

# The initial weights of every convolution before a ReLU (He et al. 2015, "Delving deep into
# rectifiers", eq. 10): a standard deviation of sqrt(2 / fan-in).
HE = "he_normal"

# The moving averages of batch normalisation. The papers give no constants; these are those of the
# residual networks' published code (facebook/fb.resnet.torch), which torchvision kept. Torch's
# momentum 0.1 is the share of the new value, Keras' 0.9 that of the old one.
BN_MOMENTUM = 0.9
BN_EPSILON = 1e-5

# The first gamma of the last batch norm in a residual branch. With 0 every block starts as the
# identity (Goyal et al. 2017, section 5.1); He et al. 2015 started with "ones".
LAST_GAMMA = "zeros"


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
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding,
        groups=groups,
        use_bias=False,
        kernel_initializer=HE,
        name=f"{name}_conv",
    )(x)


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
    x: keras.KerasTensor, filters: int, strides: int = 1, *, name: str, gamma: str = LAST_GAMMA
) -> keras.KerasTensor:
    """Return two 3×3 convolutions, the first with the stride (He et al. 2015, fig. 5 left)."""
    y = conv_bn_relu(x, filters, 3, strides, name=f"{name}_a")
    return conv_bn(y, filters, 3, name=f"{name}_b", gamma=gamma)


def bottleneck_branch(
    x: keras.KerasTensor, filters: int, strides: int = 1, *, name: str, gamma: str = LAST_GAMMA
) -> keras.KerasTensor:
    """Return 1×1 reduce with the stride, 3×3, 1×1 expand by four (He et al. 2015, fig. 5 right)."""
    y = conv_bn_relu(x, filters, 1, strides, name=f"{name}_a")
    y = conv_bn_relu(y, filters, 3, name=f"{name}_b")
    return conv_bn(y, 4 * filters, 1, name=f"{name}_c", gamma=gamma)


def bottleneck_branch_v1_5(
    x: keras.KerasTensor, filters: int, strides: int = 1, *, name: str, gamma: str = LAST_GAMMA
) -> keras.KerasTensor:
    """Return the bottleneck with its stride on the 3×3, as torchvision and NVIDIA train it.

    A 1×1 with stride 2 never reads three quarters of its input; a 3×3 reads all of it.
    """
    y = conv_bn_relu(x, filters, 1, name=f"{name}_a")
    y = conv_bn_relu(y, filters, 3, strides, name=f"{name}_b")
    return conv_bn(y, 4 * filters, 1, name=f"{name}_c", gamma=gamma)


def shortcut(
    x: keras.KerasTensor, filters: int, strides: int = 1, *, name: str, option: str = "B"
) -> keras.KerasTensor:
    """Return the trunk in the shape of the branch (He et al. 2015, section 3.3 and table 3).

    option: "A" subsamples and pads the new channels with zeros, without parameters; "B" projects
        by a 1×1 convolution with batch norm where the shape changes; "C" projects everywhere.
    """
    if option not in ("A", "B", "C"):
        raise ValueError(f"option is 'A', 'B' or 'C'; received {option!r}")
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
    """Return relu(y + shortcut of x): the residual block's end (He et al. 2015, eq. 1 and 2)."""
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
    return layers.Dense(classes, name="fc")(x)
