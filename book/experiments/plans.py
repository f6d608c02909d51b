"""The experiments as data: what is trained, how, how often, and why."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum 0.9, and its schedule.

    schedule: "steps" divides the rate by 10 after half and after three quarters of the training;
        "one_cycle" is `resnetlib.recipe.one_cycle`.
    decay: added to the gradient of every variable, times the variable, as the papers do.
    border: pixels that a random crop may shift. Half of the images are mirrored.
    """

    nesterov: bool
    schedule: str
    rate: float
    decay: float
    border: int


RECIPES = {
    # He et al. 2015, section 4.2: 64,000 steps there, divided after the same shares of fewer here.
    "paper": Recipe(False, "steps", 0.1, 1e-4, border=4),
    # Ours, for accuracy in fewer epochs.
    "sgd_one_cycle": Recipe(True, "one_cycle", 0.2, 5e-4, border=4),
}
FIT = "fit"  # the recipe of `resnetlib.training.fit`, which a laptop runs


@dataclass(frozen=True)
class Run:
    """One training. images: of the training set, from its start; 0 takes all of them.

    An epoch shows as many images as the whole set has: a smaller set is shown several times, so
    that all runs of a plan take as many steps.

    border: pixels by which `fit` may shift an image, which it mirrors at random in any case; the
        recipes above have their own.
    policy: Keras' dtype policy; with "mixed_bfloat16" layers compute with 16 bits, the variables
        keep 32.
    last_gamma: the first value of the last gamma in a residual branch, "zeros" or "ones".
    probe: write the norms of the gradients down before these epochs.
    """

    network: str
    dataset: str
    recipe: str
    epochs: int
    seed: int
    option: str | None = None
    last_gamma: str | None = None
    images: int = 0
    border: int = 0
    policy: str = "float32"
    probe: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """A name for files: what differs between the runs of one experiment."""
        option = self.option and f"option{self.option}"
        size = self.images and f"{self.images}images"
        border = self.border and f"border{self.border}"
        policy = self.policy if self.policy != "float32" else None
        seed = f"seed{self.seed}"
        parts = (self.network, option, self.last_gamma, size, border, policy, self.recipe, seed)
        return "-".join(part for part in parts if part)

    def record(self, folder: Path) -> dict | None:
        """Return what a folder has of this run once it is finished; with other epochs it is not."""
        path = folder / f"{self.name}.json"
        record = json.loads(path.read_text()) if path.exists() else {}
        wanted = json.loads(json.dumps(asdict(self)))  # with lists for tuples
        return record if all(record.get(key) == value for key, value in wanted.items()) else None


@dataclass(frozen=True)
class Plan:
    """One experiment: the question it answers, how, and its runs, the most important first."""

    question: str
    protocol: str
    runs: tuple[Run, ...]


SEEDS = (0, 1, 2)
CIFAR = (
    "CIFAR-10: 50,000 training images, 10,000 test images, batch 128, "
    "random crops with a border of 4 and flips. "
)
BY_FIT = (
    "resnetlib.training.fit with its defaults: batch 128, Muon for the kernels of convolutions and "
    "Adam for the rest, one cycle up to a rate of 0.01 in the first tenth, weight decay 0.02, "
    "label smoothing 0.1, the weights averaged at the end; images mirrored at random{}. "
    "The losses are those of smoothed labels. "
)
FASHION = "Fashion-MNIST: 60,000 training images, 10,000 test images. " + BY_FIT.format("")
SGD = "SGD with Nesterov momentum 0.9, one cycle up to a rate of 0.2, weight decay 5e-4. "
MINIS = (
    *("lenet_mini", "alexnet_mini", "vgg_mini", "googlenet_mini", "plain_mini", "resnet_mini"),
    *("preact_resnet_mini", "xception_mini", "se_resnet_mini"),
)

PLANS = {
    "degradation": Plan(
        "Does a deeper plain network train worse, and does a shortcut cure it?",
        CIFAR
        + "SGD with momentum 0.9, weight decay 1e-4, a rate of 0.1, divided by 10 after half and "
        "three quarters of 30 epochs (He et al. 2015: of 164). Every gamma starts at 1.",
        tuple(
            Run(network, "cifar10", "paper", 30, seed, last_gamma=gamma, probe=(0, 1, 15, 29))
            for seed in SEEDS
            for depth in (20, 56, 32, 44)
            for network, gamma in ((f"plain{depth}", None), (f"resnet{depth}", "ones"))
        ),
    ),
    "cifar_resnets": Plan(
        "How accurate are the small residual networks of the paper, and their relatives?",
        CIFAR + SGD + "60 epochs.",
        (
            *(
                Run(network, "cifar10", "sgd_one_cycle", 60, seed)
                for seed in SEEDS
                for network in (
                    *("resnet20", "se_resnet20", "preact_resnet20"),
                    *("resnet56", "preact_resnet56", "resnet32", "resnet44"),
                )
            ),
            # As it once started.
            *(
                Run("resnet20", "cifar10", "sgd_one_cycle", 60, seed, last_gamma="zeros")
                for seed in SEEDS
            ),
        ),
    ),
    "cifar_by_fit": Plan(
        "How accurate do they become by the course's own recipe, on a laptop, overnight?",
        "CIFAR-10: 50,000 training images, 10,000 test images. "
        + BY_FIT.format(" and shifted by up to 2 or 4 pixels")
        + "24 epochs; no other value was tuned for them.",
        (
            *(
                Run(network, "cifar10", FIT, 24, seed, border=2)
                for seed in SEEDS
                for network in ("resnet20", "se_resnet20", "preact_resnet20")
            ),
            Run("resnet20", "cifar10", FIT, 24, 0, border=4),  # as the paper shifts them
            # How the library once started them: see page.ablations.
            *(
                Run(network, "cifar10", FIT, 24, 0, last_gamma="zeros", border=2)
                for network in ("resnet20", "se_resnet20")
            ),
        ),
    ),
    "cifar_in_bfloat16": Plan(
        "Do more epochs, in bfloat16, bring ResNet-20 to the paper's accuracy; what does "
        "pre-activation change?",
        "CIFAR-10: 50,000 training images, 10,000 test images. "
        + BY_FIT.format(" and shifted by up to 4 pixels")
        + "40 epochs in mixed_bfloat16; no other value was tuned for them.",
        tuple(
            Run(network, "cifar10", FIT, 40, seed, border=4, policy="mixed_bfloat16")
            for seed in SEEDS
            for network in ("resnet20", "preact_resnet20")
        ),
    ),
    "lineage": Plan(
        "What does each idea of the lineage give a network that a laptop can train?",
        FASHION + "3 epochs, the same for all; the rate was chosen for lenet_mini, vgg_mini and "
        "resnet_mini together.",
        tuple(Run(network, "fashion_mnist", FIT, 3, seed) for seed in SEEDS for network in MINIS),
    ),
    "lineage_sample": Plan(
        "What of it can be repeated in minutes, with the images in the package?",
        "Fashion-MNIST: 12,000 training images, 2,000 test images. "
        + BY_FIT.format("")
        + "5 epochs.",
        tuple(Run(network, "fashion_mnist_sample", FIT, 5, seed=0) for network in MINIS),
    ),
    "ablations": Plan(
        "What do the shortcut's option and the first value of the last gamma matter?",
        FASHION + "3 epochs, as in `lineage`, whose plain_mini, resnet_mini and se_resnet_mini "
        "(option A, gamma 1) belong beside these. Option C is B here: each block changes shape.",
        tuple(
            Run(network, "fashion_mnist", FIT, 3, seed, option=option, last_gamma="zeros")
            for seed in SEEDS
            for network, option in (
                ("resnet_mini", "A"),
                ("resnet_mini", "B"),
                ("se_resnet_mini", None),
            )
        ),
    ),
    "training_size": Plan(
        "How many training images does an accuracy cost?",
        FASHION + "Each run takes as many steps as 3 epochs of all 60,000 images; `lineage` has "
        "the runs with all of them.",
        tuple(
            Run("resnet_mini", "fashion_mnist", FIT, 3, seed, images=images)
            for seed in SEEDS
            for images in (300, 1_000, 3_000, 10_000, 30_000)
        ),
    ),
}
