"""The one door to every action: ``python -m book.press ACTION``. The Makefile only calls this.

It needs nothing but the standard library, and it is written so that an old Python can read it and
say what is wrong. It makes ``.venv`` from ``requirements.lock`` when the lock changed, and hands
the action to :mod:`book.press.actions` inside it.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

SUPPORTED = ((3, 11), (3, 12), (3, 13))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements.lock")
STAMP = os.path.join(VENV, "made-from")
ACTIONS = [
    (
        "book",
        "run what changed and build _build/html (PROFILE=full: the sizes of book/profiles.yml)",
    ),
    ("test", "build the book, then run every test"),
    ("preview", "build the pages from the committed outputs; nothing is executed"),
    ("lab", "open JupyterLab on the notebooks"),
    ("doctor", "check this machine and say what mends each fault"),
    ("accept", "show what moved, then make the last run the reference (CHAPTER=02_convolution)"),
    ("older", "test the library with its oldest versions, and Colab's way to install it"),
    (
        "test-backends",
        "test the models with Keras on JAX and PyTorch (BACKEND=jax: on one; MODELS=mini: small)",
    ),
    ("clean", "delete _build"),
]


def version_of(python: str):  # noqa: ANN201 (the types of now are a syntax error to an old Python)
    """The (major, minor) version of an interpreter, or None where it does not run."""
    try:
        code = "import sys; print(*sys.version_info[:2])"
        answer = subprocess.check_output([python, "-c", code], stderr=subprocess.DEVNULL)
        major, minor = answer.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def find_python() -> str:
    """A supported interpreter: this one, else one on the PATH, else exit and say which would do."""
    if sys.version_info[:2] in SUPPORTED:
        return sys.executable
    for major, minor in SUPPORTED:
        python = shutil.which(f"python{major}.{minor}")
        if python and version_of(python) in SUPPORTED:
            return python
    here = ".".join(str(part) for part in sys.version_info[:2])
    good = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
    sys.exit(
        f"Python {here} cannot build this book: it needs Python {good}, as TensorFlow does.\n"
        "Install one of them, or name it: make book PYTHON=/path/to/python3.12"
    )


def venv_python() -> str:
    """The path of the interpreter inside ``.venv``."""
    inside = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return os.path.join(VENV, *inside)


def install(python: str, fingerprint: str) -> None:
    """Make ``.venv`` hold the lock; the stamp comes last, so a cut-off run starts again."""
    if version_of(venv_python()) != version_of(python):
        shutil.rmtree(VENV, ignore_errors=True)
        if subprocess.call([python, "-m", "venv", VENV]):
            sys.exit(f"{python} could not make .venv. On Debian, Ubuntu: apt install python3-venv")
    if os.path.exists(STAMP):
        os.remove(STAMP)
    with open(LOCK) as file:
        total = len(re.findall(r"^[A-Za-z0-9]", file.read(), flags=re.M))
    print("Setting up .venv from requirements.lock (once for each lock; some minutes)", flush=True)
    # Compiling every module takes longer than compiling, on import, the few that are used.
    pip = [venv_python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    # Wheels only: no compiler is needed, and no code of a package runs while it is installed. The
    # lock is complete; pip's own resolver would look at newer versions of what others ask for.
    wheels = ["--only-binary", ":all:", "--require-hashes", "--no-deps"]
    show_progress([*pip, *wheels, "-r", LOCK], total)
    show_progress([*pip, "--quiet", "--no-deps", "--no-build-isolation", "-e", ROOT], total)
    with open(STAMP, "w") as file:
        file.write(fingerprint)


def show_progress(command: list, total: int) -> None:
    """Run pip, print how far it is, and exit with its own last words when it fails."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines, seen, start, live = [], 0, time.time(), sys.stdout.isatty()
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Collecting"):
            seen += 1
            if live or seen % 25 == 0:
                elapsed = f"{time.time() - start:.0f} s"
                message = f"  {seen:3d} of about {total} packages, {elapsed}"
                print(message, end="\r" if live else "\n", flush=True)
        if line.startswith("Installing collected"):
            print(f"  installing {seen} packages" + " " * 20, flush=True)
    if process.wait():
        sys.stdout.write("".join(lines[-25:]))
        sys.exit(
            "\nThe packages could not be installed (pip's last lines are above).\n"
            "A package index must be reachable. Run the same command again: it goes on from here."
        )


def can_import_press() -> bool:
    """Whether ``.venv`` is whole enough to look at itself."""
    try:
        return not subprocess.call(
            [venv_python(), "-c", "import book.press.doctor"], cwd=ROOT, stderr=subprocess.DEVNULL
        )
    except OSError:
        return False


def main(arguments: list) -> int:
    """Check the action, bring ``.venv`` up to date, and run the action in it."""
    asked_for_help = not arguments or arguments[0] in ("help", "--help", "-h")
    if asked_for_help or arguments[0] not in dict(ACTIONS):
        if not asked_for_help:
            print(f"There is no action {arguments[0]!r}.\n")
        print("make ACTION, or without make: python -m book.press ACTION\n")
        for name, meaning in ACTIONS:
            print(f"  {name:15s}{meaning}")
        return 0 if asked_for_help else 2
    if arguments[0] == "clean":
        shutil.rmtree(os.path.join(ROOT, "_build"), ignore_errors=True)
        return 0
    python = find_python()
    with open(LOCK, "rb") as file:
        fingerprint = f"{hashlib.sha256(file.read()).hexdigest()} {version_of(python)}"
    made_from = ""
    if os.path.exists(STAMP):
        with open(STAMP) as file:
            made_from = file.read()
    if made_from != fingerprint and arguments[0] != "doctor":
        install(python, fingerprint)
    inside = venv_python()
    if arguments[0] == "doctor" and not can_import_press():
        print(f"  ok     {python} can build this book")
        print("  FAULT  .venv is missing or not whole\n         → rm -rf .venv && make book")
        return 1
    command = [inside, "-m", "book.press.actions", *arguments]
    try:
        return subprocess.call(command, cwd=ROOT, env=dict(os.environ, PYTHONPATH=ROOT))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
