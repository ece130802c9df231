"""What the far end of a veth port must and must not leave to hardware that is not there.

Packets of a veth port reach XDP as the far end's stack made them. With transmit checksumming offloaded they carry no
valid checksum, and with VLAN insertion offloaded they carry no tag, which would let tagged traffic pass for untagged.
A redirect into a veth is only received when the far end polls, which it does with GRO on (or with an XDP program of
its own).

That it polls the far end tells its port when GRO is turned on while it is up; else the port finds out when it is itself
brought up (veth_set_features and veth_open in drivers/net/veth.c since 6.3). A port that has never been told drops
every redirect to it, also when the far end comes up later. So `prepare` makes sure that it is told.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from oko.errors import PortError
from oko.kernel.ethtool import offloads, set_offloads
from oko.kernel.interface import Interface, interface, interface_at, set_up
from oko.kernel.namespace import HERE, inode, run_in, with_id, with_inode

_GRO = "rx-gro"
REQUIRED = {
    "tx-checksum-ip-generic": False,
    "tx-checksum-sctp": False,
    "tx-vlan-hw-insert": False,
    "tx-vlan-stag-hw-insert": False,
    _GRO: True,
}
"""The states that the far end needs, by the kernel's names of the features."""


@dataclass(frozen=True, slots=True)
class SavedOffloads:
    """The far end of a port as `prepare` found it.

    `peer` is its name then, `peer_index` and `port_index` are the two ends' ifindex each in its own network namespace,
    `namespace` the inode of the peer's. `states` are the features that were changed, and what they were.
    """

    peer: str
    peer_index: int
    port_index: int
    namespace: int
    states: dict[str, bool]

    def is_of(self, other: SavedOffloads) -> bool:
        """Whether both are of one far end."""
        return (self.peer_index, self.namespace) == (other.peer_index, other.namespace)

    def to_json(self) -> dict[str, Any]:
        """The value as json.dumps takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """The value that `to_json` gave."""
        return cls(**saved)


def inspect(port: str) -> SavedOffloads | None:
    """What `prepare` would change at the far end of a port, as it is now. Raises PortError when the peer's
    namespace cannot be reached."""
    if (found := _far_end(port)) is None:
        return None
    near, peer_index, namespace = found
    return run_in(namespace, lambda: _inspect_peer(near, interface_at(peer_index)))


def prepare(port: str) -> SavedOffloads | None:
    """Set the offloads of the far end of a veth port as REQUIRED; None where there is nothing to set, on other kinds.

    `port` is an interface of the caller's network namespace. Where the far end is down and the port is up, the port is
    brought down and up again; there is no link then that could notice. Raises PortError when the peer's namespace
    cannot be reached, or the kernel keeps a feature as it is: then the message has the command that would set them.
    """
    if (found := _far_end(port)) is None:
        return None
    near, peer_index, namespace = found
    peer, saved = run_in(namespace, lambda: _prepare_peer(near, interface_at(peer_index)))
    if near.up and not peer.up:
        for up in (False, True):
            set_up(near.index, up)
    return saved


def restore(saved: SavedOffloads) -> None:
    """Give the far end back what `prepare` changed. Nothing happens when the pair or its namespace is gone.

    Raises PortError when the kernel does not take the states back.
    """
    namespace = with_inode(saved.namespace)
    if namespace is not None:
        run_in(namespace, lambda: _restore_peer(saved))


def _far_end(port: str) -> tuple[Interface, int, Path] | None:
    """The port, the index of its far end and the network namespace of that; None if it is no veth. Raises PortError."""
    near = interface(port)
    if near.kind != "veth" or near.peer_index is None:
        return None
    namespace = HERE if near.peer_namespace_id is None else with_id(near.peer_namespace_id)
    if namespace is None:
        peer = interface_at(near.peer_index, namespace_id=near.peer_namespace_id)
        raise PortError(
            f"port {port}: its peer {peer.name} is in a network namespace that cannot be reached from here: "
            f"{_advice(peer.name)} there, or give that namespace a name with 'ip netns attach'"
        )
    return near, near.peer_index, namespace


def _inspect_peer(near: Interface, peer: Interface) -> SavedOffloads:
    """In the peer's namespace: what is not as required."""
    now = offloads(peer.name)
    states = {
        name: now[name].wanted
        for name, state in REQUIRED.items()
        if name in now and (now[name].wanted, now[name].active) != (state, state)
    }
    return SavedOffloads(peer.name, peer.index, near.index, inode(), states)


def _prepare_peer(near: Interface, peer: Interface) -> tuple[Interface, SavedOffloads]:
    """In the peer's namespace: change what is not as required, and look whether it took."""
    saved = _inspect_peer(near, peer)
    if near.up and peer.up and _GRO in offloads(peer.name) and _GRO not in saved.states:
        # It may have been turned on when the end was down.
        set_offloads(peer.name, {_GRO: False})
        set_offloads(peer.name, {_GRO: True})
    if saved.states:
        set_offloads(peer.name, {name: REQUIRED[name] for name in saved.states})
        after = offloads(peer.name)
        stubborn = [name for name in saved.states if after[name].active != REQUIRED[name]]
        if stubborn:
            _restore_peer(saved)
            raise PortError(
                f"port {near.name}: its peer {peer.name} keeps {', '.join(stubborn)} as they are: {_advice(peer.name)}"
            )
    return peer, saved


def _restore_peer(saved: SavedOffloads) -> None:
    """In the peer's namespace: only if it still is the far end of that port."""
    try:
        peer = interface_at(saved.peer_index)
    except PortError:
        return
    if peer.kind == "veth" and peer.peer_index == saved.port_index and saved.states:
        set_offloads(peer.name, saved.states)


def _advice(peer: str) -> str:
    settings = " ".join(f"{name} {'on' if state else 'off'}" for name, state in REQUIRED.items())
    return f"run 'ethtool -K {peer} {settings}'"
