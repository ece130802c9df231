from __future__ import annotations

import re
from pathlib import Path

import pytest

from verifier.helpers import HELPERS, helper_name

HEADER = Path("/usr/include/linux/bpf.h")


def test_prototypes_have_the_name_of_their_number() -> None:
    for number, helper in HELPERS.items():
        assert helper.name == helper_name(number)


def test_names_are_those_of_the_kernel_header() -> None:
    if not HEADER.exists():
        pytest.skip("no kernel headers")
    names = re.findall(r"\bFN\((\w+)(?:, \d+)?[,)]", HEADER.read_text().split("FUNC_MAPPER(FN")[1])
    names = [name for name in names if name not in ("unspec", "x")]
    assert len(names) > 200
    for number, name in enumerate(names, 1):
        assert helper_name(number) == f"bpf_{name}"


def test_unknown_number() -> None:
    assert helper_name(0) == helper_name(100000) == "helper"
