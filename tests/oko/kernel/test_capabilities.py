from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection

import pytest

from oko.kernel.capabilities import Capability

BPF, NET_ADMIN, SYS_ADMIN = Capability.BPF, Capability.NET_ADMIN, Capability.SYS_ADMIN


def asked(expression: str, capabilities: str) -> str:
    """What an expression over this module is in a process with these capabilities alone."""
    keep = f"-all{capabilities}"
    code = f"from oko.kernel.capabilities import *; print({expression}, end='')"
    command = ["setpriv", f"--bounding-set={keep}", f"--inh-caps={keep}", sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.needs_bpf  # who may not give up capabilities has none to give up
@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ("", ()),
        (",+net_admin,+kill", (NET_ADMIN,)),
        (",+bpf,+net_admin,+perfmon", (NET_ADMIN, Capability.PERFMON, BPF)),
        (",+net_raw,+sys_admin", (Capability.NET_RAW, SYS_ADMIN)),
    ],
)
def test_those_that_are_held(capabilities: str, expected: Collection[Capability]) -> None:
    assert asked("*sorted(held())", capabilities) == " ".join(map(str, expected))


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    ("needed", "capabilities", "words"),
    [
        ("ALWAYS", "", "it needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: run it as root, or give it these"),
        ("ALWAYS", ",+bpf,+net_admin", "CAP_NET_ADMIN and CAP_PERFMON; CAP_PERFMON is missing: run it as root"),
        ("ALWAYS", ",+bpf", "CAP_PERFMON; CAP_NET_ADMIN and CAP_PERFMON are missing: run it as root"),
        ("[Capability.SYS_ADMIN]", "", "it needs CAP_SYS_ADMIN: run it as root"),
        ("ALWAYS", ",+bpf,+net_admin,+perfmon", "which this process has: a user namespace or a security module may"),
    ],
)
def test_advice(needed: str, capabilities: str, words: str) -> None:
    assert words in asked(f"advice({needed})", capabilities)
