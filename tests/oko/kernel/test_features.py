from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest

from oko.errors import KernelError, NotSupported
from oko.kernel.cpus import possible_cpus
from oko.kernel.features import FEATURES, OPTIONAL, Feature, can_load_bpf, probe, require


@pytest.mark.needs_bpf
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_features_of_this_kernel(feature: Feature) -> None:
    """On every kernel that Oko is made for, 6.1 being the oldest."""
    assert probe(feature).reason is None
    require(feature)


@pytest.mark.needs_bpf
@pytest.mark.parametrize("feature", OPTIONAL, ids=lambda feature: feature.name)
def test_optional_features_of_this_kernel(feature: Feature) -> None:
    """Debian's kernels are configured with all of them."""
    release = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
    since = tuple(int(number) for number in feature.since.split("."))
    assert bool(probe(feature)) is (release >= since)


@pytest.mark.needs_bpf
def test_right_to_load_bpf() -> None:
    assert can_load_bpf() is None


@pytest.mark.needs_bpf
@pytest.mark.parametrize("missing", ["bpf", "net_admin", "perfmon"])
def test_missing_capability_is_named(missing: str) -> None:
    capabilities = f"-all{''.join(f',+{name}' for name in ('bpf', 'net_admin', 'perfmon') if name != missing)}"
    code = "from oko.kernel.features import can_load_bpf; print(can_load_bpf())"
    done = subprocess.run(
        ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}", sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("loading XDP programs: not permitted, it needs CAP_BPF, ")
    assert f"; CAP_{missing.upper()} is missing: run it as root" in done.stdout


def test_features_are_by_age() -> None:
    versions = [tuple(map(int, feature.since.split("."))) for feature in FEATURES]
    assert versions == sorted(versions)


def missing(error: int) -> Feature:
    def probe() -> None:
        raise KernelError("trying it: the kernel's words", errno=error)

    return Feature("time travel", "9.9", "no yesterday", probe)


def test_missing_feature_names_the_version_that_has_it() -> None:
    feature = missing(errno.EINVAL)
    assert not probe(feature)
    words = r"time travel: not supported by kernel .* \(needs 9.9 or later\), hence no yesterday: trying it: "
    with pytest.raises(NotSupported, match=words):
        require(feature)


def test_missing_privilege_is_not_blamed_on_the_kernel() -> None:
    assert probe(missing(errno.EPERM)).reason == "trying it: the kernel's words"


def test_possible_cpus_are_those_of_sysfs() -> None:
    with open("/sys/devices/system/cpu/possible") as text:
        parts = [[int(number) for number in part.split("-")] for part in text.read().split(",")]
    assert possible_cpus() == sum(part[-1] - part[0] + 1 for part in parts)
