"""What is known of each architecture, and `build`.

The numbers are those of the papers and of FACTS that others published; tests/test_models.py builds
every network and compares.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of one architecture.

    family: the module of `resnetlib.models` that builds it. input_shape: (height, width, channels)
    and classes: the paper's, and the defaults of `build`. trainable, total: parameters, for these
    defaults. macs: multiply-accumulates of one image in convolutions and dense layers. stages: the
    output shape of the layer that ends each stage. source: paper and table. departures: where ours
    differs, and why. chapter: the chapter that teaches it. min_size: the smallest height and width.
    """

    family: str
    input_shape: tuple[int, int, int]
    classes: int
    trainable: int
    total: int
    macs: int
    stages: dict[str, tuple[int, ...]]
    source: str
    departures: str
    chapter: int
    min_size: int

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.input_shape))
        return (
            f"Card({shape}, {self.classes} classes, {self.trainable:,} parameters, {self.source})"
        )


def build(
    name: str,
    *,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
    weights: str | None = None,
) -> "keras.Model":
    """Return the architecture `name` as a functional Keras model.

    name: a key of `MODELS`.
    input_shape: (height, width, channels); None takes the card's.
    classes: the length of the output, at least 1; None takes the card's.
    weights: None for new ones, or the data set that the shipped ones were trained on, "cifar10" or
        "fashion_mnist"; these want images between 0 and 1.
    Result: a model from images (N, height, width, channels), float32 of the range that you train
    it with, to logits (N, classes); float64 images are cast to float32. One with auxiliary heads
    gives a list of logits, its own first.
    Errors: ValueError or TypeError that names the value and the choices.
    """
    if name not in MODELS:
        raise ValueError(f"no architecture {name!r}; there are {', '.join(MODELS)}")
    card = MODELS[name]
    shape = card.input_shape if input_shape is None else _shape(name, input_shape, card.min_size)
    classes = card.classes if classes is None else classes
    if isinstance(classes, bool) or not isinstance(classes, int):
        raise TypeError(f"classes is an integer; received {classes!r}")
    if classes < 1:
        raise ValueError(f"classes is at least 1; received {classes}")
    family = importlib.import_module(f"resnetlib.models.{card.family}")
    model = family.build(name, shape, classes)
    if weights is not None:
        if (shape, classes) != (card.input_shape, card.classes):
            raise ValueError(
                f"trained weights of {name} are for images of {card.input_shape} and "
                f"{card.classes} classes; received {shape} and {classes}"
            )
        importlib.import_module("resnetlib.weights").load_trained(model, weights)
    return model


def _shape(name: str, shape: Sequence[int], least: int) -> tuple[int, int, int]:
    usual = "(height, width, channels)"
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:
        raise ValueError(f"input_shape is {usual}, without the batch; received {shape!r}")
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in shape):
        raise TypeError(f"input_shape is {usual} as three integers; received {shape!r}")
    height, width, channels = shape
    if height in (1, 3) and min(width, channels) > 4:
        raise ValueError(
            f"input_shape is {usual}, channels last; received {tuple(shape)}, "
            f"which looks like channels first: use {(width, channels, height)}"
        )
    if min(height, width) < least or channels < 1:
        raise ValueError(
            f"{name} needs images of at least {least}×{least} with a channel or more; "
            f"received {tuple(shape)}"
        )
    return height, width, channels


HE_2015 = "He et al. 2015, Deep residual learning for image recognition"
HE_2016 = "He et al. 2016, Identity mappings in deep residual networks"
SYMMETRIC = "Strided convolutions pad k // 2 zeros on every side, as the papers' code does."
ZERO_GAMMA = "The last gamma of each block starts at 0 (Goyal et al. 2017), not at 1."


def _imagenet(
    repeats: Sequence[int], widths: Sequence[int], end: str = "relu"
) -> dict[str, tuple[int, ...]]:
    """Return the stages conv2_x to conv5_x at 224×224: a quarter of the size, then halves."""
    stages = enumerate(zip(repeats, widths, strict=True), start=2)
    return {f"conv{s}_{n}_{end}": (224 >> s, 224 >> s, width) for s, (n, width) in stages}


def _cifar(blocks: int, end: str = "relu") -> dict[str, tuple[int, ...]]:
    """Return the stages conv2_x to conv4_x at 32×32."""
    return {f"conv{s}_{blocks}_{end}": (128 >> s, 128 >> s, 4 << s) for s in (2, 3, 4)}


MODELS: dict[str, Card] = {}

# ---------------------------------------------------------------- residual networks
BASIC, BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
_resnet = partial(
    Card,
    family="resnet",
    input_shape=(224, 224, 3),
    classes=1000,
    source=f"{HE_2015}, table 1",
    departures=f"{SYMMETRIC} {ZERO_GAMMA}",
    chapter=12,
    min_size=32,
)
_plain = partial(_resnet, departures=SYMMETRIC, chapter=11)
_v2 = partial(
    _resnet,
    source=HE_2016,
    departures=f"{SYMMETRIC} Convolutions have no bias, and a stage opens with its stride; "
    "keras.applications' version has biases, and strides where a stage ends.",
    chapter=13,
)
MODELS |= {
    "plain18": _plain(
        trainable=11_515_688,
        total=11_523_496,
        macs=1_794_805_760,
        stages=_imagenet((2, 2, 2, 2), BASIC),
    ),
    "plain34": _plain(
        trainable=21_623_848,
        total=21_639_080,
        macs=3_644_493_824,
        stages=_imagenet((3, 4, 6, 3), BASIC),
    ),
    "resnet18": _resnet(
        trainable=11_689_512,
        total=11_699_112,
        macs=1_814_073_344,
        stages=_imagenet((2, 2, 2, 2), BASIC),
    ),
    "resnet34": _resnet(
        trainable=21_797_672,
        total=21_814_696,
        macs=3_663_761_408,
        stages=_imagenet((3, 4, 6, 3), BASIC),
    ),
    "resnet50": _resnet(
        trainable=25_557_032,
        total=25_610_152,
        macs=3_857_973_248,
        stages=_imagenet((3, 4, 6, 3), BOTTLENECK),
    ),
    "resnet101": _resnet(
        trainable=44_549_160,
        total=44_654_504,
        macs=7_570_194_432,
        stages=_imagenet((3, 4, 23, 3), BOTTLENECK),
    ),
    "resnet152": _resnet(
        trainable=60_192_808,
        total=60_344_232,
        macs=11_282_415_616,
        stages=_imagenet((3, 8, 36, 3), BOTTLENECK),
    ),
    "resnet50_v1_5": _resnet(
        trainable=25_557_032,
        total=25_610_152,
        macs=4_089_184_256,
        stages=_imagenet((3, 4, 6, 3), BOTTLENECK),
        departures=f"{SYMMETRIC} {ZERO_GAMMA} The stride of a bottleneck stands on its 3×3 "
        "convolution, as torchvision trains it, and not on its first 1×1.",
        chapter=13,
    ),
    "resnet18_v2": _v2(
        trainable=11_687_720,
        total=11_695_528,
        macs=1_814_073_344,
        stages=_imagenet((2, 2, 2, 2), BASIC, end="add"),
    ),
    "resnet50_v2": _v2(
        trainable=25_549_352,
        total=25_594_792,
        macs=4_089_184_256,
        stages=_imagenet((3, 4, 6, 3), BOTTLENECK, end="add"),
    ),
}

# On CIFAR a shortcut has no parameters, so three networks of one depth have equal counts.
for depth, trainable, total, macs in (
    (20, 269_722, 271_098, 40_551_040),
    (32, 464_154, 466_426, 68_862_592),
    (44, 658_586, 661_754, 97_174_144),
    (56, 853_018, 857_082, 125_485_696),
    (110, 1_727_962, 1_736_058, 252_887_680),
):
    _counted = partial(
        _resnet,
        input_shape=(32, 32, 3),
        classes=10,
        trainable=trainable,
        total=total,
        macs=macs,
        stages=_cifar((depth - 2) // 6),
        source=f"{HE_2015}, section 4.2 and table 6",
        departures=SYMMETRIC,
        min_size=8,
    )
    MODELS |= {
        f"plain{depth}": _counted(chapter=11),
        f"resnet{depth}": _counted(),
        f"preact_resnet{depth}": _counted(
            source=f"{HE_2016}, figure 4e and appendix",
            departures=f"{SYMMETRIC} Option A everywhere, so that it is the twin of resnet{depth}.",
            stages=_cifar((depth - 2) // 6, end="add"),
            chapter=13,
        ),
    }

_mini = partial(
    _resnet,
    input_shape=(28, 28, 1),
    classes=10,
    trainable=75_002,
    total=75_482,
    macs=2_578_816,
    stages={"conv2_1_relu": (14, 14, 16), "conv3_1_relu": (7, 7, 32), "conv4_1_relu": (4, 4, 64)},
    source="ours, after section 4.2 of He et al. 2015",
    departures="One block a stage, each with a stride of 2.",
    min_size=8,
)
MODELS |= {
    "plain_mini": _mini(chapter=11),
    "resnet_mini": _mini(),
    "preact_resnet_mini": _mini(
        stages={"conv2_1_add": (14, 14, 16), "conv3_1_add": (7, 7, 32), "conv4_1_add": (4, 4, 64)},
        chapter=13,
    ),
}

# ---------------------------------------------------------------- Xception
CHOLLET_2017 = "Chollet 2017, Xception: deep learning with depthwise separable convolutions"
MODELS |= {
    "xception": Card(
        family="xception",
        input_shape=(299, 299, 3),
        classes=1000,
        trainable=22_855_952,
        total=22_910_480,
        macs=8_357_403_496,
        stages={
            "block4_add": (19, 19, 728),
            "block12_add": (19, 19, 728),
            "block14_b_relu": (10, 10, 2048),
        },
        source=f"{CHOLLET_2017}, figure 5 and table 3",
        departures="Padding is that of the author's own code in keras.applications: none in the "
        "stem, Keras' 'same' in the pooling, which is lopsided at even sizes. Batch norm has the "
        "course's constants (momentum 0.9, epsilon 1e-5), not Keras' (0.99, 1e-3). No dropout "
        "before the logits (the paper drops half for ImageNet), as in that code.",
        chapter=14,
        min_size=32,
    ),
    "xception_mini": Card(
        family="xception",
        input_shape=(28, 28, 1),
        classes=10,
        trainable=145_434,
        total=148_218,
        macs=3_762_352,
        stages={
            "block2_add": (6, 6, 64),
            "block4_add": (6, 6, 64),
            "block6_b_relu": (3, 3, 256),
        },
        source=f"ours, after {CHOLLET_2017}, figure 5",
        departures="One entry block and two middle blocks, with 2 to 11 times fewer filters.",
        chapter=14,
        min_size=8,
    ),
}

# ---------------------------------------------------------------- squeeze and excitation
HU_2018 = "Hu et al. 2018, Squeeze-and-excitation networks"
SE_BIASES = "The dense layers of a squeeze-and-excitation block have biases (the authors' code)."
_senet = partial(_resnet, family="senet", chapter=15)
MODELS |= {
    # resnet20 plus three blocks each of 49, 162 and 580: C·⌊C/16⌋ twice, and C + ⌊C/16⌋ biases.
    "se_resnet20": _senet(
        input_shape=(32, 32, 3),
        classes=10,
        trainable=272_095,
        total=273_471,
        macs=40_553_056,
        stages=_cifar(3),
        source=f"{HU_2018}, figure 3, in the network of {HE_2015}, section 4.2",
        departures=f"{SYMMETRIC} {SE_BIASES}",
        min_size=8,
    ),
    # resnet50 plus 2,530,992, of which 16,048 are biases.
    "se_resnet50": _senet(
        trainable=28_088_024,
        total=28_141_144,
        macs=3_860_488_192,
        stages=_imagenet((3, 4, 6, 3), BOTTLENECK),
        source=f"{HU_2018}, table 1",
        departures=f"{SYMMETRIC} {ZERO_GAMMA} {SE_BIASES}",
    ),
    # googlenet plus nine blocks, counted as above: 256, 480, 3 × 512, 528, 2 × 832, 1024 channels.
    "se_googlenet": _senet(
        trainable=7_478_655,
        total=7_478_655,
        macs=1_583_146_144,
        stages={
            "inception_3b_scale": (28, 28, 480),
            "inception_4e_scale": (14, 14, 832),
            "inception_5b_scale": (7, 7, 1024),
        },
        source=f"{HU_2018}, figure 2, in the network of Szegedy et al. 2014, table 1",
        departures="The paper's own experiments use the later inception networks with batch norm; "
        f"this one is googlenet, without. {SE_BIASES}",
    ),
    "senet154": _senet(
        trainable=115_088_984,
        total=115_336_536,
        macs=20_688_363_520,
        stages=_imagenet((3, 8, 36, 3), BOTTLENECK),
        source=f"{HU_2018}, appendix, and the authors' published network",
        departures=f"{SYMMETRIC} {ZERO_GAMMA} {SE_BIASES} The max pooling pads after the "
        "last pixel only, as that code does at even sizes.",
    ),
    "se_resnet_mini": _senet(
        input_shape=(28, 28, 1),
        classes=10,
        trainable=77_830,
        total=78_310,
        macs=2_581_504,
        stages=MODELS["resnet_mini"].stages,
        source=f"ours: resnet_mini after {HU_2018}, figure 3",
        departures="One block a stage, each with a stride of 2; a ratio of 4, not 16.",
        min_size=8,
    ),
}

# ---------------------------------------------------------------- LeNet, AlexNet, VGG, GoogLeNet
# Their parameters and multiply-accumulates are sums over the papers' tables, made by hand: a
# convolution k×k from c to f maps has (k·k·c + 1)·f parameters and k·k·c·f·H·W of the latter.
HE_INIT = "He initialisation, which came later, instead of the paper's."
LECUN_1998 = "LeCun et al. 1998, Gradient-based learning applied to document recognition"
MODELS |= {
    "lenet5_1998": Card(
        family="lenet",
        input_shape=(32, 32, 1),
        classes=10,
        trainable=60_000,
        total=60_840,  # and ten codes of 84
        macs=326_520,  # C1 117,600, C3 150,000, C5 48,000, F6 10,080, the distances 840
        stages={
            "C1": (28, 28, 6),
            "S2": (14, 14, 6),
            "C3": (10, 10, 16),
            "S4": (5, 5, 16),
            "C5": (1, 1, 120),
            "F6": (84,),
        },
        source=f"{LECUN_1998}, fig. 2 and table I",
        departures="The output is minus the distance to each code, so that the largest wins. The "
        "bitmaps of the codes are our drawing. Weights start by LeCun's rule 1 / sqrt(fan-in), "
        "subsampling as average pooling.",
        chapter=6,
        min_size=32,
    ),
    "lenet5": Card(
        family="lenet",
        input_shape=(32, 32, 1),
        classes=10,
        trainable=61_706,
        total=61_706,
        macs=416_520,
        stages={"S2": (14, 14, 6), "S4": (5, 5, 16), "C5": (1, 1, 120), "F6": (84,)},
        source=f"{LECUN_1998}, fig. 2, as it is told today",
        departures="Plain average pooling, C3 reads all maps, tanh without a scale, a dense output "
        "of logits.",
        chapter=6,
        min_size=32,
    ),
    "lenet_mini": Card(
        family="lenet",
        input_shape=(28, 28, 1),
        classes=10,
        trainable=61_706,
        total=61_706,
        macs=416_520,
        stages={"S2": (14, 14, 6), "S4": (5, 5, 16), "C5": (1, 1, 120), "F6": (84,)},
        source=f"lenet5 for 28×28, after {LECUN_1998}",
        departures="As lenet5; C1 pads two zeros on every side, as if the image were 32×32.",
        chapter=6,
        min_size=28,
    ),
    "alexnet": Card(
        family="alexnet",
        input_shape=(227, 227, 3),
        classes=1000,
        trainable=60_965_224,
        total=60_965_224,
        macs=724_406_816,
        stages={
            "conv1": (55, 55, 96),
            "pool1": (27, 27, 96),
            "pool2": (13, 13, 256),
            "conv3": (13, 13, 384),
            "conv4": (13, 13, 384),
            "pool5": (6, 6, 256),
        },
        source="Krizhevsky et al. 2012, fig. 2 and section 3",
        departures="227×227 images: the paper prints 224, which does not give its 55×55. "
        f"Both towers in one graph, as groups. {HE_INIT}",
        chapter=7,
        min_size=67,  # pool5 needs 3×3, so pool2's input 7×7, conv1's output 15×15
    ),
    "alexnet_one_tower": Card(
        family="alexnet",
        input_shape=(224, 224, 3),
        classes=1000,
        trainable=61_100_840,
        total=61_100_840,
        macs=714_188_480,
        stages={
            "conv1": (55, 55, 64),
            "pool1": (27, 27, 64),
            "pool2": (13, 13, 192),
            "conv3": (13, 13, 384),
            "conv4": (13, 13, 256),
            "pool5": (6, 6, 256),
        },
        source="Krizhevsky 2014, One weird trick, as torchvision reads it",
        departures="conv4 has torchvision's 256 filters, no normalisation follows, and the average "
        "pooling to 6×6 that torchvision adds is left out: it changes nothing at 224. Dropout "
        f"stands after fc6 and fc7, as in 2012. {HE_INIT}",
        chapter=7,
        min_size=63,
    ),
    "alexnet_mini": Card(
        family="alexnet",
        input_shape=(28, 28, 1),
        classes=10,
        trainable=117_658,
        total=117_658,
        macs=5_102_784,
        stages={"pool1": (13, 13, 24), "pool2": (6, 6, 48), "pool5": (2, 2, 48)},
        source="ours, after Krizhevsky et al. 2012",
        departures="A 5×5 first convolution without a stride, and narrow layers; groups, local "
        "response normalisation, overlapping pooling and dropout are kept.",
        chapter=7,
        min_size=15,
    ),
}
_vgg = partial(
    Card,
    family="vgg",
    input_shape=(224, 224, 3),
    classes=1000,
    stages={f"pool{s}": (224 >> s, 224 >> s, min(512, 32 << s)) for s in range(1, 6)},
    source="Simonyan and Zisserman 2014, table 1",
    departures=HE_INIT,
    chapter=8,
    min_size=32,
)
MODELS |= {
    f"vgg{depth}": _vgg(trainable=count, total=count, macs=macs)
    for depth, count, macs in (
        (11, 132_863_336, 7_609_090_048),
        (13, 133_047_848, 11_308_466_176),
        (16, 138_357_544, 15_470_264_320),
        (19, 143_667_240, 19_632_062_464),
    )
}
_googlenet = partial(
    Card,
    family="googlenet",
    input_shape=(224, 224, 3),
    classes=1000,
    stages={
        "conv1": (112, 112, 64),
        "conv2": (56, 56, 192),
        "inception_3b": (28, 28, 480),
        "inception_4e": (14, 14, 832),
        "inception_5b": (7, 7, 1024),
    },
    source="Szegedy et al. 2014, table 1",
    departures=f"{HE_INIT} A window of max pooling may hang over the border, which gives the "
    "table's sizes.",
    chapter=9,
)
MODELS |= {
    "vgg_mini": _vgg(
        input_shape=(28, 28, 1),
        classes=10,
        trainable=97_166,
        total=97_166,
        macs=4_205_504,
        stages={"pool1": (14, 14, 12), "pool2": (7, 7, 24), "pool3": (3, 3, 48)},
        source="ours, after Simonyan and Zisserman 2014",
        departures="Three stages of two convolutions, narrow, and one hidden dense layer.",
        min_size=8,
    ),
    "googlenet": _googlenet(
        trainable=6_998_552,
        total=6_998_552,
        macs=1_582_671_872,
        min_size=32,
    ),
    "googlenet_auxiliary": _googlenet(
        trainable=13_378_280,
        total=13_378_280,
        macs=1_591_044_096,
        source="Szegedy et al. 2014, table 1 and section 5",
        departures=f"{HE_INIT} Three outputs: the logits, then those of both auxiliary heads; the "
        "paper weights the heads' losses by 0.3 (googlenet.AUXILIARY_WEIGHT).",
        min_size=65,  # the heads' 5×5 pooling reads a sixteenth of the image, rounded up
    ),
    "googlenet_mini": _googlenet(
        input_shape=(28, 28, 1),
        classes=10,
        trainable=94_462,
        total=94_462,
        macs=3_511_456,
        stages={"conv2": (14, 14, 48), "inception_3b": (7, 7, 96), "inception_4b": (4, 4, 176)},
        source="ours, after Szegedy et al. 2014",
        departures="Four narrow modules after a stem of two 3×3 convolutions, no normalisation.",
        min_size=8,
    ),
}
