"""Each setup of the benchmark forwards what it should and blocks what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perf.guest import KVM
from perf.setups import SETUPS, divided
from perf.xdp import OBJECTS, build
from tests.perf.setup_trial import EMULATED, EMULATED_CPU, SCENARIOS, cases

ROOT = Path(__file__).resolve().parents[2]

FILTERED = ("forward", "firewall", "p0f", "token_bucket")
TRIALS: dict[str, tuple[str, ...]] = {
    "oko": (*FILTERED, "addresses", "prefixes", "masks"),
    "attached": FILTERED,
    "by-hand": (*FILTERED, "addresses", "prefixes"),
    "ovs-afxdp": ("forward", "firewall", "addresses", "masks"),
    "ovs-afpacket": ("forward",),
    "process": FILTERED,
    "process-alone": ("forward",),
    "testpmd": ("forward",),
    # Its limit for each source never gives the same figure twice: that one is of the others.
    "kernel": ("forward", "firewall", "p0f", "addresses", "prefixes"),
    "vm": FILTERED,
}
WITHOUT_FILTER = {"ovs-afxdp", "ovs-afpacket"}
LOSSY = {("ovs-afpacket", "forward"), ("attached", "forward")}
"""Packets go through sockets with little room there, so that frames are lost when others need the processor."""


def test_every_setup_has_a_trial_or_cannot_run() -> None:
    absent = {setup.name for setup in SETUPS if setup.missing(SCENARIOS["forward"]()) is not None}
    assert {setup.name for setup in SETUPS} - absent <= set(TRIALS)
    assert len({setup.letter for setup in SETUPS} | {"d"}) == len(SETUPS) - 1  # both of Open vSwitch are d


@pytest.mark.parametrize(
    ("processors", "expected"),
    [([0], ([0], [0])), ([0, 1], ([0], [1])), ([0, 2, 3], ([0, 2], [3]))],
    ids=["one", "two", "three"],
)
def test_a_process_has_a_processor_of_its_own_if_it_can(
    processors: list[int], expected: tuple[list[int], list[int]]
) -> None:
    assert divided(processors) == expected


@pytest.mark.needs_bpf
@pytest.mark.parametrize("name", TRIALS)
def test_it_forwards_and_blocks(name: str) -> None:
    setup = next(setup for setup in SETUPS if setup.name == name)
    wanted = [each for each in TRIALS[name] if setup.missing(SCENARIOS[each]()) is None]
    if not wanted:
        pytest.skip(str(setup.missing(SCENARIOS["forward"]())))
    build()
    _try(name, wanted, 180)


def test_a_virtual_machine_needs_hardware_virtualisation() -> None:
    if {"vmx", "svm"} & set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("this machine has it")
    assert KVM.missing() == "no hardware virtualisation here: not run"


@pytest.mark.needs_bpf
def test_a_virtual_machine_forwards_and_blocks() -> None:
    """The setup `vm`, in a guest without KVM: half a minute for each scenario. What it needs is there after
    ``make test-old-kernel``; CI does without."""
    if (reason := EMULATED.missing(SCENARIOS["forward"]())) is not None:
        pytest.skip(reason)
    if not any((ROOT / "build" / "vm").glob("linux-image-*/boot")):
        pytest.skip("no kernel in build/vm")
    build()
    place = OBJECTS / EMULATED_CPU
    baselines = ROOT / "perf" / "baselines"
    subprocess.run(["make", "-s", "-C", baselines, "processes", f"CPU={EMULATED_CPU}", f"BUILD={place}"], check=True)
    _try(EMULATED.name, ["forward", "firewall"], 600)


def _try(name: str, wanted: list[str], timeout: float) -> None:
    """Send what the cases of these scenarios have, and compare what arrives. `timeout` is in seconds."""
    command = [sys.executable, "-m", "tests.perf.setup_trial", name, *wanted]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for each in wanted:
        for case in cases(each):
            sent, delivered = found[each][case.name]
            expected = case.plain if name in WITHOUT_FILTER else case.filtered
            assert sent == case.passes * len(case.phase.templates), case.name
            least = expected // 2 if (name, each) in LOSSY else expected
            assert least <= delivered <= expected, (each, case.name, sent, delivered)
