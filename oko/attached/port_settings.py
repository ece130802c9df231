"""What OpenFlow has set of a bridge and OVSDB does not tell: `PortSettings`, and how fragments are handled."""

from __future__ import annotations

from typing import Final

from ofext.constants import PortConfig, PortReason
from ofext.messages import GetConfigReply, GetConfigRequest, PortStatus
from ofext.multipart import Port, PortDescReply, PortDescRequest
from oko.attached.management import Management
from oko.errors import AttachError

WITHHOLDING: Final = {PortConfig.NO_RECV: "no-receive", PortConfig.NO_FWD: "no-forward"}
"""The settings that XDP does not keep, as ovs-ofctl mod-port calls them. (By a port that is down nothing comes.)"""
_FRAGMENTS: Final = 3  # OFPC_FRAG_MASK


async def require_usual_fragments(management: Management) -> None:
    """Raises AttachError if Open vSwitch matches fragments otherwise than XDP does. To be asked before SET_CONFIG is
    sent, which sets that, too."""
    config = await management.ask(GetConfigRequest())
    assert isinstance(config, GetConfigReply)
    if config.flags & _FRAGMENTS:
        raise AttachError(
            "fragments are not handled as is usual, and XDP knows no other way: run 'ovs-ofctl set-frags BRIDGE normal'"
        )


class PortSettings:
    """Of one bridge, as its management connection tells."""

    def __init__(self) -> None:
        self._set: dict[int, str] = {}

    def withheld(self, number: int) -> str:
        """Why XDP must leave the packets from and to a port to Open vSwitch; empty if nothing is set."""
        return self._set.get(number, "")

    async def begin(self, management: Management) -> None:
        """Learn what is set now. Raises RemoteError, AttachError."""
        reply = await management.report(PortDescRequest())
        assert isinstance(reply, PortDescReply)
        self._set = {}
        for port in reply.entries:
            self._take(port)

    def hear(self, status: PortStatus) -> bool:
        """Whether a port is withheld for another reason now than it was."""
        before = self.withheld(status.desc.port_no)
        if status.reason == PortReason.DELETE:
            self._set.pop(status.desc.port_no, None)
        else:
            self._take(status.desc)
        return self.withheld(status.desc.port_no) != before

    def _take(self, port: Port) -> None:
        words = [word for bit, word in WITHHOLDING.items() if port.config & bit]
        if words:
            self._set[port.port_no] = f"it is set to {' and '.join(words)} by 'ovs-ofctl mod-port'"
        else:
            self._set.pop(port.port_no, None)
