from __future__ import annotations

from oko.attached import shim
from oko.attached.management import Management
from oko.flow.shim import is_shim
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import run
from tests.ovs import needs_ovs

INNER = bytes.fromhex("0200000000020200000000010800") + bytes(46)


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


@needs_ovs
def test_nothing_else_passes_for_one(ovs: Laboratory) -> None:
    """What Open vSwitch takes for a shim, Oko knows as a forgery. What Oko takes for one without need has a version or
    a length that is wrong."""
    ovs.add(f"priority=1,dl_type={shim.ETHERTYPE:#x},nsh_mdtype=2,nsh_np=3,nsh_si=255,actions=drop")
    whole, needless = shim.frame(7, INNER), set()
    for at in range(12, shim.SIZE):
        for bit in range(8):
            frame = whole[:at] + bytes((whole[at] ^ 1 << bit,)) + whole[at + 1 :]
            seen = "priority 1" in ovs.vswitch.appctl("ofproto/trace", BRIDGE, "in_port=1", frame.hex())
            assert is_shim(frame) or not seen, frame.hex()
            if is_shim(frame) and not seen:
                needless.add(at)
    assert needless == {14, 15}
