"""What every benchmark writes: where it ran, and its results as JSON."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def circumstances() -> dict:
    """The processor, the cores that this process may use, and the versions."""
    # Here, not above: benchmarks set TensorFlow's variables before it is imported, and line.py
    # measures other processes, which must not inherit any.
    from resnetlib import provenance

    hardware = {"processor": provenance.processor(), "cores": provenance.cores()}
    return {"hardware": hardware, "versions": provenance.versions()}


def save(name: str, report: dict) -> None:
    """Write results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")


def load(name: str) -> dict:
    """Return results/NAME.json, or {} before the first run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def recorded(name: str, report: dict, *keys: str) -> dict:
    """Return results/NAME.json, or {} if it ran elsewhere, or differs in one of these keys."""
    earlier = load(name)
    same = all(earlier.get(key) == report[key] for key in ("hardware", "versions", *keys))
    return earlier if same else {}
