"""Time one convolution three ways, and the import of resnetlib: python benchmarks/conv2d.py.

Each time is the median of several runs, with the fastest and the slowest beside it. NumPy and
Keras use as many threads as they choose. On two idle cores it takes about a minute and a half.
"""

import os
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it when it is imported

import keras
import numpy as np

from resnetlib.numpy_ops import conv2d_loops, conv2d_matmul, output_size

CASES = [  # images, height, width, channels, kernel size, filters, strides
    (1, 28, 28, 1, 3, 32, 1),
    (4, 32, 32, 16, 3, 32, 1),
    (1, 56, 56, 64, 3, 64, 1),
    (1, 112, 112, 3, 7, 64, 2),
]
LOOP_RUNS, RUNS, IMPORT_RUNS = 3, 15, 5
MODULES = ["numpy", "resnetlib", "resnetlib.numpy_ops", "resnetlib.models", "keras"]


def run_seconds(function, runs):
    """Call once to warm up, then return the seconds of each further run."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def import_seconds(module, runs):
    """Return the seconds that importing a module takes, each time in a fresh interpreter."""
    code = f"import time; s = time.perf_counter(); import {module}; print(time.perf_counter() - s)"
    command = [sys.executable, "-c", code]
    return [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(runs)
    ]


def row(name, times, note=""):
    median, fastest, slowest = (1000 * f(times) for f in (statistics.median, min, max))
    between = f"{fastest:.2f} – {slowest:.2f}"
    print(f"  {name:<22}{median:>10.2f}   {between:<22}{len(times):>4}   {note}".rstrip())


def heading(text):
    print(f"\n{text}\n  {'':<22}{'median ms':>10}   {'fastest – slowest':<22}{'runs':>4}")


def compare(images, height, width, channels, size, filters, strides):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(images, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(size, size, channels, filters)).astype(np.float32)
    places = output_size(height, size, strides) * output_size(width, size, strides)
    macs = images * places * filters * size * size * channels
    ways = [
        ("conv2d_loops", lambda: conv2d_loops(x, kernel, strides=strides), LOOP_RUNS),
        ("conv2d_matmul", lambda: conv2d_matmul(x, kernel, strides=strides), RUNS),
        ("keras.ops.conv", lambda: np.asarray(keras.ops.conv(x, kernel, strides)), RUNS),
    ]
    expected = ways[-1][1]()
    heading(
        f"{images} × {height}×{width}×{channels}, {filters} filters {size}×{size}, strides "
        f"{strides}, valid, float32: {macs / 1e6:.1f} M multiply-accumulates (MAC)"
    )
    for name, function, runs in ways:
        np.testing.assert_allclose(function(), expected, rtol=1e-3, atol=1e-3)
        times = run_seconds(function, runs)
        row(name, times, f"{macs / statistics.median(times) / 1e6:,.1f} M MAC/s")


def main():
    backend = keras.backend.backend()
    print(
        f"{os.cpu_count()} processors, {platform.machine()}, {platform.system()}; Python "
        f"{platform.python_version()}, NumPy {np.__version__}, Keras {keras.__version__}, "
        f"{backend} {sys.modules[backend].__version__}"
    )
    for case in CASES:
        compare(*case)
    heading("import, each time in a fresh interpreter")
    for module in MODULES:
        row(module, import_seconds(module, IMPORT_RUNS))


if __name__ == "__main__":
    main()
