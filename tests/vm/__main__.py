"""``python -m tests.vm [ARGUMENT...]``: pytest with these arguments on Debian's 6.1 kernel; without any, DEFAULT."""

from __future__ import annotations

import argparse
import os
import sys

from oko.errors import OkoError
from tests.bpf_programs.builds import compile_all
from tests.bpf_programs.harness import OBJECTS, build
from tests.patience import PATIENCE
from tests.vm.guest import ROOT, Machine, run
from tests.vm.kernel import debian_kernel

ROOMS = ("oko/kernel", "oko/compiler", "oko/switch", "oko/replay", "bpf_programs")
DEFAULT = ("-m", "needs_bpf", "tests/bpf_programs/test_compilers.py", *(f"tests/{room}" for room in ROOMS))
"""The tests that ask the kernel something, first whether it takes the sample programs. Not those of tests/e2e: a
command of Oko's takes ten seconds and more in the guest."""

KERNEL_DATAPATH = ("openvswitch", "tun")
"""What Open vSwitch needs for bridges in the kernel, and for those of its own."""
ATTACHED = ("tests/oko/attached/test_order.py", "tests/e2e/test_attached.py")
"""What is run with --kernel-datapath unless other tests are named."""

TIMEOUT = 3600
"""Seconds for the guest. It has no KVM: everything takes many times as long as on the host."""

SETTINGS = {"OKO_EXAMPLES": "20", "OKO_CASES": "40", PATIENCE: "10"}
"""Tables and switches of the differential tests, of which there are more on the host, and how many times as long as
there tests wait. The caller's environment may say otherwise."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description="pytest on Debian's 6.1 kernel")
    help = "for the guest (%(default)s)"
    parser.add_argument("--guest-timeout", type=float, default=TIMEOUT, metavar="SECONDS", help=help)
    help = "attached to bridges of the kernel's openvswitch (default: in user space)"
    parser.add_argument("--kernel-datapath", action="store_true", help=help)
    settings, arguments = parser.parse_known_args()
    # Compiled here: there it would take half a minute for each.
    objects = ROOT / "build" / "vm" / "objects"
    # What a test leaves out for want of BPF would look like success: CI=true makes it a failure.
    variables = ["CI=true", f"{OBJECTS}={objects}"]
    variables += [f"{name}={os.environ.get(name, number)}" for name, number in SETTINGS.items()]
    if settings.kernel_datapath:
        variables.append("OKO_DATAPATH_TYPE=system")
    python = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command = ["env", *variables, *python, *(arguments or (ATTACHED if settings.kernel_datapath else DEFAULT))]
    try:
        build(objects)
        compile_all(objects)
        machine = Machine(modules=KERNEL_DATAPATH if settings.kernel_datapath else ())
        return run(debian_kernel(ROOT / "build" / "vm"), command, settings.guest_timeout, machine)
    except OkoError as error:
        print(f"tests.vm: {error}\n{error.details}".rstrip(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
