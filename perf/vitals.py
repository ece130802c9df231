"""`Vitals`: what a process and the kernel hold of memory, descriptors and objects while a long run goes on, and whether
that stays flat."""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from oko.errors import KernelError
from oko.kernel.libbpf import attempt, failure

_QUARTERS: Final = 4


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that must not grow: `unit`, and by how much the medians may differ, in units."""

    name: str
    unit: str
    bound: int


MEMORY: Final = Measure("memory", "KiB", 24 << 10)
MEASURES: Final = (
    MEMORY,
    Measure("descriptors", "", 24),
    Measure("threads", "", 2),
    Measure("programs in the kernel", "", 8),
    Measure("maps in the kernel", "", 24),
    Measure("links in the kernel", "", 2),
    Measure("pins", "", 8),
    Measure("run directory", "bytes", 4 << 10),
    Measure("state directory", "KiB", 6 << 10),
)
"""Bounds leave room for what comes and goes: connections, an image that is being replaced, a journal."""


@dataclass(frozen=True, slots=True)
class Trend:
    """Of a measure: the medians of its second quarter and of its last, and the highest that was seen."""

    measure: Measure
    samples: int
    early: float
    late: float
    highest: int

    @property
    def is_flat(self) -> bool:
        """No growth beyond the bound."""
        return self.late - self.early <= self.measure.bound

    def __str__(self) -> str:
        unit = f" {self.measure.unit}" if self.measure.unit else ""
        said = "flat" if self.is_flat else f"grows by more than {self.measure.bound:,}{unit}"
        return (
            f"{self.measure.name}: {self.early:,.0f}{unit} in the second quarter, {self.late:,.0f} in the last, "
            f"at most {self.highest:,}: {said}"
        )


class Vitals:
    """Samples by measure, in the order of time."""

    def __init__(self) -> None:
        self._samples: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, sample: Mapping[str, int]) -> None:
        """Of any of MEASURES, by name."""
        for name, value in sample.items():
            self._samples[name].append(value)

    def trends(self) -> list[Trend]:
        """Of the measures with samples in every quarter."""
        return [
            _trend(measure, samples) for measure in MEASURES if len(samples := self._samples[measure.name]) >= _QUARTERS
        ]


def _trend(measure: Measure, samples: Sequence[int]) -> Trend:
    quarter = len(samples) // _QUARTERS
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    return Trend(measure, len(samples), median(early), median(late), max(samples))


class KernelObjects:
    """BPF objects that a process was seen to hold and that are still there, whoever holds them now."""

    _kinds: Final = {"prog": "programs in the kernel", "map": "maps in the kernel", "link": "links in the kernel"}
    _line: Final = re.compile(r"^(prog|map|link)_id:\s*(\d+)$", re.MULTILINE)

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {kind: set() for kind in self._kinds}

    def look(self, pid: int) -> dict[str, int]:
        """How many there are, by measure, with those that the process holds now."""
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            try:
                text = path.read_text()
            except OSError:  # closed meanwhile
                continue
            if "link_id" in text:  # says of its program, too, which has a descriptor of its own or none
                text = "\n".join(line for line in text.splitlines() if line.startswith("link_id"))
            for kind, number in self._line.findall(text):
                self._seen[kind].add(int(number))
        return self.count()

    def count(self) -> dict[str, int]:
        """How many of them are there."""
        for kind, numbers in self._seen.items():
            numbers &= {number for number in numbers if _is_there(kind, number)}
        return {name: len(self._seen[kind]) for kind, name in self._kinds.items()}


def _is_there(kind: str, number: int) -> bool:
    found = attempt(f"bpf_{kind}_get_fd_by_id", number)
    if found >= 0:
        os.close(found)
    elif found != -errno.ENOENT:
        raise failure(f"looking for {kind} {number}", -found)
    return found >= 0


def process(pid: int) -> dict[str, int]:
    """What a process holds, by measure. Raises KernelError when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError as error:
        raise KernelError(f"process {pid}: {error.strerror}", errno=error.errno or 0) from None
    values = dict(line.split(":", 1) for line in status.splitlines())
    return {
        MEMORY.name: int(values["VmRSS"].split()[0]),
        "descriptors": descriptors,
        "threads": int(values["Threads"]),
    }


def files(directory: Path) -> tuple[int, int]:
    """The files below a directory, and their bytes together. Files may go meanwhile."""
    count = size = 0
    for path in directory.rglob("*"):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if not path.is_dir():
            count, size = count + 1, size + found.st_size
    return count, size
