"""What a number was computed with: the processor, its cores, the memory taken, the versions."""

import os
import platform
import sys
from pathlib import Path

import keras

import resnetlib

# Those that decide how fast a processor trains, by the names that Linux gives them.
INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_bf16": "AMX"}


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def processor(info: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name and instructions, such as "AMD EPYC (AVX2, AVX-512)".

    One name can stand for processors whose speeds differ by a factor of 2; these tell them apart.
    info: the file in which Linux describes its processors.
    Result: the kind of machine where the system does not tell the name.
    """
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    if "model name" not in facts:
        return platform.machine()
    flags = facts.get("flags", "").split()
    instructions = ", ".join(name for flag, name in INSTRUCTIONS.items() if flag in flags)
    return facts["model name"] + (f" ({instructions})" if instructions else "")


def peak_megabytes() -> float | None:
    """Return the most memory that this process has taken so far, in units of 10⁶ bytes.

    Result: None on a system that does not tell it, such as Windows.
    """
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, a child process starts getrusage's peak with its parent's
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS: bytes


def versions() -> dict[str, str]:
    """Return the versions of Python, resnetlib, Keras, its backend and NumPy."""
    backend = keras.backend.backend()
    modules = (backend, "keras", "numpy")
    return {
        "python": platform.python_version(),
        "resnetlib": resnetlib.__version__,
        **{name: sys.modules[name].__version__ for name in modules},
    }
