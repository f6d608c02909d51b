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
) -> "keras.Model":
    """Return the architecture `name` as a functional Keras model with new weights.

    name: a key of `MODELS`.
    input_shape: (height, width, channels); None takes the card's.
    classes: the length of the output, at least 1; None takes the card's.
    Result: a model from images (N, height, width, channels), float32 of the range that you train
    it with, to logits (N, classes); float64 images are cast to float32.
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
    return family.build(name, shape, classes)


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
V2_STEM = "Convolutions have no bias, and strides open a stage; Keras' own version differs in both."


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
        min_size=8,
    )
    MODELS |= {
        f"plain{depth}": _counted(departures=SYMMETRIC, chapter=11),
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
        departures=f"{SYMMETRIC} {ZERO_GAMMA} {SE_BIASES}",
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
