from __future__ import annotations

import pytest

from oko.attached import shim
from oko.attached.management import Management
from oko.flow import headers
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import run
from tests.ovs import needs_ovs

INNER = bytes.fromhex("0200000000020200000000010800") + bytes(46)


def test_bytes() -> None:
    wrapped = shim.frame(0x123456, INNER)
    assert wrapped.hex() == "0180c200000e02000 00c0000".replace(" ", "") + "894f0fc20203123456ff" + INNER.hex()
    assert len(wrapped) == len(INNER) + shim.SIZE
    parsed = headers.parse(wrapped, 1)
    assert parsed is not None
    assert parsed["eth_type"] == shim.ETHERTYPE


@pytest.mark.parametrize("shim_id", [shim.IDS[0], shim.IDS[-1]])
def test_ids(shim_id: int) -> None:
    assert len(shim.frame(shim_id, b"")) == shim.SIZE


@needs_ovs
def test_open_vswitch_reads_it_so(ovs: Laboratory) -> None:
    """The rule that drops is stored as it was meant, and matches the frame."""

    async def main() -> None:
        management = await Management.connect(ovs.vswitch.management(BRIDGE), lambda _: None, lambda _: None)
        await management.change([shim.DROP])
        management.close()

    run(main())
    flows = ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE)
    assert f"priority={shim.DROP_PRIORITY},dl_type=0x894f,nsh_mdtype=2,nsh_np=3,nsh_si=255 actions=drop" in flows
    assert f"cookie={shim.OWN_COOKIE:#x}" in flows
    traced = ovs.vswitch.appctl("ofproto/trace", BRIDGE, "in_port=1", shim.frame(7, INNER).hex())
    assert f"priority {shim.DROP_PRIORITY}" in traced
