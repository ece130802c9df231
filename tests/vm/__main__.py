"""``python -m tests.vm [ARGUMENT...]``: pytest with these arguments on Debian's 6.1 kernel; without any, DEFAULT."""

from __future__ import annotations

import argparse
import os
import sys

from oko.errors import OkoError
from tests.bpf_programs.builds import compile_all
from tests.bpf_programs.harness import OBJECTS, build
from tests.vm.guest import ROOT, run
from tests.vm.kernel import debian_kernel

ROOMS = ("oko/kernel", "oko/compiler", "oko/switch", "oko/replay", "bpf_programs")
DEFAULT = ("-m", "needs_bpf", "tests/bpf_programs/test_compilers.py", *(f"tests/{room}" for room in ROOMS))
"""The tests that ask the kernel something, first whether it takes the sample programs. Not those of tests/e2e: a
command of Oko's takes ten seconds and more in the guest, and they wait twenty at most."""

TIMEOUT = 3600
"""Seconds for the guest. It has no KVM: everything takes many times as long as on the host."""

FEWER = {"OKO_EXAMPLES": "20", "OKO_CASES": "40"}
"""Tables and switches of the differential tests; on the host there are more."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description="pytest on Debian's 6.1 kernel")
    help = "for the guest (%(default)s)"
    parser.add_argument("--guest-timeout", type=float, default=TIMEOUT, metavar="SECONDS", help=help)
    settings, arguments = parser.parse_known_args()
    # Compiled here: there it would take half a minute for each.
    objects = ROOT / "build" / "vm" / "objects"
    # What a test leaves out for want of BPF would look like success: CI=true makes it a failure.
    variables = ["CI=true", f"{OBJECTS}={objects}"]
    variables += [f"{name}={os.environ.get(name, number)}" for name, number in FEWER.items()]
    python = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command = ["env", *variables, *python, *(arguments or DEFAULT)]
    try:
        build(objects)
        compile_all(objects)
        return run(debian_kernel(ROOT / "build" / "vm"), command, settings.guest_timeout)
    except OkoError as error:
        print(f"tests.vm: {error}\n{error.details}".rstrip(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
