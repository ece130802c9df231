from __future__ import annotations

from collections.abc import Callable

import pytest

from oko.errors import KernelError
from oko.kernel import maps
from oko.kernel.btf import load_btf
from oko.kernel.maps import Map
from tests.oko.kernel import assembler as asm

pytestmark = pytest.mark.needs_bpf


def test_btf_gives_a_map_its_types() -> None:
    raw, _, _ = asm.btf_of_function("filter", "return 0;", 1)
    with (
        load_btf(raw) as btf,
        Map.create("typed", maps.ARRAY, 4, 4, 1, btf_fd=btf.fd, key_type=1, value_type=1) as typed,
    ):
        assert typed.lookup(bytes(4)) == bytes(4)
        with pytest.raises(KernelError, match="creating the map typed"):
            Map.create("typed", maps.ARRAY, 4, 8, 1, btf_fd=btf.fd, key_type=1, value_type=1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda raw: raw[:10], "btf_header not found", id="truncated"),
        pytest.param(lambda raw: b"\0\0" + raw[2:], "Invalid magic", id="magic"),
        pytest.param(lambda raw: raw[:24] + b"\xff" + raw[25:], "Invalid name", id="name beyond the strings"),
    ],
)
def test_refusal_carries_the_log(damage: Callable[[bytes], bytes], reason: str) -> None:
    raw, _, _ = asm.btf_of_function("filter", "return 0;", 1)
    with pytest.raises(KernelError, match=f"the kernel refused the BTF: .*{reason}") as refused:
        load_btf(damage(raw))
    assert reason in refused.value.details
