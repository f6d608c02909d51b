"""The experiments as data: what is trained, how, how often, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """An optimizer and its schedule.

    schedule: "steps" divides the rate by 10 after half and after three quarters of the training;
        "one_cycle" is `resnetlib.recipe.one_cycle`.
    decay: of the weights; with SGD added to the gradient of every variable, as the papers do, with
        AdamW decoupled, and not for biases and norms.
    smoothing: of the labels. border: pixels that a random crop may shift. Half are mirrored.
    """

    optimizer: str
    schedule: str
    rate: float
    decay: float
    smoothing: float
    border: int


RECIPES = {
    # He et al. 2015, section 4.2: 64,000 steps there, the same thirds of fewer steps here.
    "paper": Recipe("sgd", "steps", 0.1, 1e-4, 0.0, border=4),
    # Ours, for accuracy in fewer epochs.
    "sgd_one_cycle": Recipe("nesterov", "one_cycle", 0.2, 5e-4, 0.0, border=4),
    "adamw_one_cycle": Recipe("adamw", "one_cycle", 2e-3, 0.02, 0.1, border=2),
}


@dataclass(frozen=True)
class Run:
    """One training. images: of the training set, from its start; 0 takes all of them.

    An epoch shows as many images as the whole set has: a smaller set is shown several times, so
    that all runs of a plan take as many steps.

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
    probe: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """A name for files: what differs between the runs of one experiment."""
        option = self.option and f"option{self.option}"
        size = self.images and f"{self.images}images"
        parts = (self.network, option, self.last_gamma, size, self.recipe, f"seed{self.seed}")
        return "-".join(part for part in parts if part)


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
FASHION = (
    "Fashion-MNIST: 60,000 training images, 10,000 test images, batch 128, "
    "random shifts by up to 2 pixels and flips. "
)
SGD = "SGD with Nesterov momentum 0.9, one cycle up to a rate of 0.2, weight decay 5e-4. "
ADAMW = "AdamW, one cycle up to a rate of 0.002, weight decay 0.02, label smoothing 0.1. "
MINIS = (
    *("lenet_mini", "alexnet_mini", "vgg_mini", "googlenet_mini", "plain_mini", "resnet_mini"),
    *("preact_resnet_mini", "xception_mini", "se_resnet_mini"),
)

PLANS = {
    "degradation": Plan(
        "Does a deeper plain network train worse, and does a shortcut cure it?",
        CIFAR
        + "SGD with momentum 0.9, weight decay 1e-4, a rate of 0.1, divided by 10 after half and "
        "three quarters of 30 epochs (He et al. 2015: of 164). Every gamma starts at 1, as there.",
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
        tuple(
            Run(network, "cifar10", "sgd_one_cycle", 60, seed)
            for seed in SEEDS
            for network in (
                *("resnet20", "se_resnet20", "preact_resnet20"),
                *("resnet56", "preact_resnet56", "resnet32", "resnet44"),
            )
        ),
    ),
    "ablations": Plan(
        "What do the shortcut's option, the first gamma and the order of the block matter?",
        CIFAR + SGD + "20 epochs.",
        tuple(
            Run(network, "cifar10", "sgd_one_cycle", 20, seed, option=option, last_gamma=gamma)
            for seed in SEEDS
            for network, option, gamma in (
                ("plain20", None, None),
                ("resnet20", "A", "zeros"),
                ("resnet20", "A", "ones"),
                ("resnet20", "B", "zeros"),
                ("resnet20", "C", "zeros"),
                ("preact_resnet20", "A", None),
                ("se_resnet20", None, None),
            )
        ),
    ),
    "lineage": Plan(
        "What does each idea of the lineage give a network that a laptop can train?",
        FASHION + ADAMW + "10 epochs, the same for all; no value was tuned.",
        tuple(
            Run(network, "fashion_mnist", "adamw_one_cycle", 10, seed)
            for seed in SEEDS
            for network in MINIS
        ),
    ),
    "training_size": Plan(
        "How many training images does an accuracy cost?",
        FASHION + ADAMW + "Each run takes as many steps as 10 epochs of all 60,000 images.",
        tuple(
            Run("resnet_mini", "fashion_mnist", "adamw_one_cycle", 10, seed, images=images)
            for seed in SEEDS
            for images in (300, 1_000, 3_000, 10_000, 30_000)
        ),
    ),
}
