"""How long each mini trains on the images that travel with the library: python benchmarks/minis.py.

Each small network of the registry learns the 12,000 embedded images of Fashion-MNIST for five
epochs, by `training.fit` as it is, and is measured on the 2,000 embedded test images. The aim:
about a minute on two cores.

    --models A B    of the minis (default: all)
    --rate R        the peak of the learning rate (default: fit's own)

Prints a table and writes results/minis.json beside this file, after each network; a network that is
not asked for keeps its earlier row there, if setting, versions and processor are the same. Ten
minutes.
"""

import argparse
import os
import time

# TensorFlow reads both at its import; oneDNN is on by default only on newer processors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
from report import circumstances, recorded, save

from resnetlib import data, models, recipe, training

MINIS = [name for name in models.MODELS if name.endswith("_mini")]
EPOCHS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MINIS, default=MINIS)
    parser.add_argument("--rate", type=float, default=recipe.PEAK)
    arguments = parser.parse_args()
    train, test = data.fashion_mnist()
    setting = {"images": len(train), "epochs": EPOCHS, "learning_rate": arguments.rate}
    report = circumstances() | {"setting": setting}
    report["models"] = recorded("minis", report, "setting").get("models", {})
    print(f"{'':<20}{'parameters':>11}{'seconds':>9}{'test accuracy':>15}")
    for name in arguments.models:
        keras.utils.set_random_seed(0)
        model, start = models.build(name), time.perf_counter()
        training.fit(model, train, epochs=EPOCHS, learning_rate=arguments.rate, progress=False)
        seconds, accuracy = time.perf_counter() - start, training.evaluate(model, test)["accuracy"]
        report["models"][name] = {"seconds": round(seconds, 1), "accuracy": round(accuracy, 4)}
        print(f"{name:<20}{model.count_params():>11,}{seconds:>9.1f}{accuracy:>15.4f}", flush=True)
        save("minis", report)


if __name__ == "__main__":
    main()
