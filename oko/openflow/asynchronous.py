"""Which messages a connection gets unasked (OpenFlow 1.3.5, 6.3.5 and 7.3.10)."""

from __future__ import annotations

from typing import Final

from ofext.constants import FlowRemovedReason, PacketInReason, PortReason, Role
from ofext.messages import FlowRemoved, GetAsyncReply, PacketIn, PortStatus

Unasked = PacketIn | PortStatus | FlowRemoved


def _all(reasons: type[PacketInReason] | type[PortReason] | type[FlowRemovedReason]) -> int:
    return sum(1 << reason for reason in reasons)


DEFAULT: Final = GetAsyncReply(
    (_all(PacketInReason), 0), (_all(PortReason), _all(PortReason)), (_all(FlowRemovedReason), 0)
)
"""What a connection gets that has not chosen: everything, and as a slave what becomes of ports."""


def wants(chosen: GetAsyncReply, kind: type[Unasked], reason: int, role: Role) -> bool:
    """Whether a connection of this role that has `chosen` so gets a message of this kind for this reason."""
    masks = {
        PacketIn: chosen.packet_in_mask,
        PortStatus: chosen.port_status_mask,
        FlowRemoved: chosen.flow_removed_mask,
    }[kind]
    return bool(masks[role is Role.SLAVE] >> reason & 1)
