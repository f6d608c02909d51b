"""Check the machine: one line for each fact, and for each fault the one command that mends it."""

import hashlib
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from book.press import chapters
from book.press.__main__ import STAMP, SUPPORTED, VENV

# A finding: is it well, what was found, and the command that mends it.
Finding = tuple[bool, str, str]

GIGABYTE = 2**30
MEMORY_NEEDED, DISK_NEEDED = 4 * GIGABYTE, 3 * GIGABYTE
# Minutes for each core that the quick size of a chapter takes where none has been timed yet.
MINUTES_PER_CHAPTER = 1.0


def doctor(root: Path = chapters.ROOT) -> bool:
    """Print all findings; True when nothing needs mending."""
    findings = [
        *python(),
        *packages(root),
        *kernel(),
        *machine(root),
        *data(),
        *minutes(root),
    ]
    for well, found, remedy in findings:
        print(
            f"  {'ok   ' if well else 'FAULT'}  {found}"
            + ("" if well else f"\n         → {remedy}")
        )
    faults = sum(not well for well, _, _ in findings)
    print("Nothing to mend." if not faults else f"{faults} to mend.")
    return not faults


def python() -> Iterator[Finding]:
    """The interpreter."""
    version = sys.version_info[:2]
    good = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
    text = f"Python {'.'.join(map(str, sys.version_info[:3]))} (works with {good})"
    yield version in SUPPORTED, text, "make book PYTHON=/path/to/python3.12"
    inside = Path(sys.prefix) == Path(VENV)
    yield inside, f"environment: {'.venv' if inside else 'not made yet'}", "make book"


def locked(root: Path) -> dict[str, set[str]]:
    """Each package of the lock, with the versions it may have (they can differ by Python)."""
    wanted: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)", (root / "requirements.lock").read_text("utf-8"), flags=re.M
    ):
        wanted.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return wanted


def packages(root: Path) -> Iterator[Finding]:
    """Installed packages against the lock; those it keeps for other platforms may be absent."""
    installed = {
        re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower(): package.version
        for package in importlib.metadata.distributions()
    }
    wanted = locked(root)
    other = [
        f"{name} {installed[name]} (lock: {' or '.join(sorted(wanted[name]))})"
        for name in wanted
        if name in installed and installed[name] not in wanted[name]
    ]
    stamp = Path(STAMP)
    digest = hashlib.sha256((root / "requirements.lock").read_bytes()).hexdigest()
    current = stamp.exists() and stamp.read_text().startswith(digest)
    text = f"requirements.lock: {len(wanted)} packages, {len(other)} installed in another version"
    yield not other, text + "".join(f"\n           {line}" for line in other[:5]), remake()
    yield (
        current,
        f"requirements.lock {'is' if current else 'is not'} what .venv was made from",
        remake(),
    )


def remake() -> str:
    """The command that makes the environment anew."""
    return "rm -rf .venv && make book"


def kernel() -> Iterator[Finding]:
    """The Jupyter kernel that papermill will start: it must be this interpreter's."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        spec = KernelSpecManager().get_kernel_spec("python3")
    except Exception as error:  # Whatever is wrong with Jupyter, it is a finding and not a crash.
        yield False, f"Jupyter kernel python3: {error}", remake()
        return
    # A bare "python" is replaced by the running interpreter; a path of another one is not.
    own = spec.argv[0] in ("python", "python3", sys.executable) or Path(spec.argv[0]).samefile(
        sys.executable
    )
    yield own, f"Jupyter kernel python3 starts {spec.argv[0]}", f"rm -r {spec.resource_dir}"


def machine(root: Path) -> Iterator[Finding]:
    """Cores, memory, disk, and a browser for the tests of the page."""
    yield True, f"{os.cpu_count()} cores", ""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf.
        import psutil

        memory = psutil.virtual_memory().total
    enough = memory >= MEMORY_NEEDED
    need = f"{MEMORY_NEEDED / GIGABYTE:.0f}"
    yield enough, f"{memory / GIGABYTE:.0f} GB of memory (needs {need})", "close other programs"
    free = shutil.disk_usage(root).free
    need = f"{DISK_NEEDED / GIGABYTE:.0f}"
    yield free >= DISK_NEEDED, f"{free / GIGABYTE:.0f} GB of disk free (needs {need})", "make clean"
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    absent = "no Chromium: the tests of the page in a browser will be skipped"
    yield True, f"browser: {browser}" if browser else absent, ""


def data() -> Iterator[Finding]:
    """The embedded data sets against their checksums."""
    from resnetlib.data import EMBEDDED, read_embedded

    for name in EMBEDDED:
        try:
            read_embedded(name)
        except (OSError, ValueError) as error:
            yield False, f"data: {error}", "git checkout -- resnetlib"
        else:
            yield True, f"data: {name} has the right checksum", ""


def minutes(root: Path) -> Iterator[Finding]:
    """How long ``make book`` will take, from the last run of each chapter where there is one."""
    try:
        selected = chapters.find(root)
        waiting = [chapter for chapter in selected if chapters.reasons(chapter)]
        seconds = sum(
            chapters.read(chapter.executed).metadata.press.seconds
            if chapter.executed.exists()
            else 60 * MINUTES_PER_CHAPTER
            for chapter in waiting
        )
    except (OSError, ValueError) as error:
        yield False, f"chapters: {error}", "git status notebooks"
        return
    expected = seconds / 60 / (os.cpu_count() or 1) + 0.5
    text = f"{len(waiting)} of {len(selected)} chapters to run"
    yield True, f"{text}; make book takes about {expected:.0f} min", ""
