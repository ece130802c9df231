"""Every row of the table of features, on a real Open vSwitch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oko.attached.description import OvsBridge
from oko.attached.features import FEATURES, Feature, Treatment, require_attachable, used
from oko.errors import AttachError
from oko.flow.text import parse_rule
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import following, run, vsctl
from tests.ovs import needs_ovs

pytestmark = needs_ovs

REFUSED = {
    "mirrors": "--id=@m create mirror name=m -- set bridge br0 mirrors=@m",
    "sFlow": '--id=@s create sflow agent=lo target="127.0.0.1:9" header=128 -- set bridge br0 sflow=@s',
    "NetFlow": '--id=@n create netflow targets="127.0.0.1:9" -- set bridge br0 netflow=@n',
    "IPFIX": '--id=@i create ipfix targets="127.0.0.1:9" -- set bridge br0 ipfix=@i',
    "in-band control": "set-controller br0 tcp:127.0.0.1:9",
    "bonds": "add-bond br0 bond0 none1 none2",
    "QoS": "--id=@q create qos type=linux-htb -- set port p1 qos=@q",
    "policing in kbit/s": "set interface p1 ingress_policing_rate=1000",
    "policing in packets": "set interface p1 ingress_policing_kpkts_rate=1000",
    "eviction": "--id=@t create flow_table overflow_policy=evict -- set bridge br0 flow_tables:0=@t",
    "hardware offload": "set Open_vSwitch . other_config:hw-offload=true",
}
"""A command that turns the feature on."""

BEFORE = {
    "STP": ("set bridge br0 stp_enable=true", "set bridge br0 stp_enable=false"),
    "RSTP": ("set bridge br0 rstp_enable=true", "set bridge br0 rstp_enable=false"),
    "LACP": ("set port p1 lacp=passive", "clear port p1 lacp"),
    "BFD": ("set interface p1 bfd:enable=true", "clear interface p1 bfd"),
    "CFM": ("set interface p1 cfm_mpid=1", "clear interface p1 cfm_mpid"),
    "LLDP": ("set interface p1 lldp:enable=true", "clear interface p1 lldp"),
}

HONOURED = {
    "access and trunk ports": ("set port p1 vlan_mode=native-tagged", "clear port p1 vlan_mode"),
    "VLAN tag of a port": ("set port p1 tag=0", "clear port p1 tag"),
    "VLAN trunks": ("set port p1 trunks=5,6", "clear port p1 trunks"),
    "protected ports": ("set port p1 protected=true", "set port p1 protected=false"),
    "flooded VLANs": ("set bridge br0 flood_vlans=5", "clear bridge br0 flood_vlans"),
    "multicast snooping": (
        "set bridge br0 mcast_snooping_enable=true",
        "set bridge br0 mcast_snooping_enable=false",
    ),
    "limits of tables": (
        "--id=@t create flow_table flow_limit=1000000 -- set bridge br0 flow_tables:5=@t",
        "clear bridge br0 flow_tables",
    ),
    "fail mode standalone": ("set bridge br0 fail_mode=standalone", "set bridge br0 fail_mode=secure"),
}


OTHERS = {
    **{name: (Treatment.BEFORE, *commands) for name, commands in BEFORE.items()},
    **{name: (Treatment.HONOURED, *commands) for name, commands in HONOURED.items()},
}


def uses(name: str) -> Callable[[OvsBridge | None], bool]:
    """Whether a bridge uses the feature of this name."""

    def meets(bridge: OvsBridge | None) -> bool:
        return bridge is not None and any(
            name == feature.name for each in Treatment for feature, _ in used(bridge, each)
        )

    return meets


def test_every_feature_of_the_database_has_a_row_here() -> None:
    assert {feature.name for feature in FEATURES if feature.uses is not None} == {*REFUSED, *OTHERS}
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_how_to_turn_it_off(ovs: Laboratory, name: str) -> None:
    async def main() -> None:
        async with following(ovs) as (follower, seen):
            # The change to the database is what counts; ovs-vswitchd need not be able to do it.
            await vsctl(ovs, "--no-wait", "--", *REFUSED[name].split())
            bridge = await seen.until(uses(name))
            assert bridge is not None
            with pytest.raises(AttachError, match=f"{name} of .*: run 'ovs-vsctl ") as caught:
                require_attachable(bridge)
            words = caught.value.details.split("'")[-2].split()
            assert words[0] == "ovs-vsctl"
            await vsctl(ovs, *words[1:])
            await seen.until(lambda found: not uses(name)(found))
            assert follower.bridge is not None
            require_attachable(follower.bridge)

    run(main())
    ovs.vswitch.vsctl("del-controller", BRIDGE)


@pytest.mark.parametrize(("name", "treatment", "on", "off"), [(name, *row) for name, row in OTHERS.items()], ids=OTHERS)
def test_what_is_not_refused(ovs: Laboratory, name: str, treatment: Treatment, on: str, off: str) -> None:
    async def main() -> None:
        async with following(ovs) as (_, seen):
            await vsctl(ovs, "--", *on.split())
            bridge = await seen.until(uses(name))
            assert bridge is not None
            assert name in {feature.name for feature, _ in used(bridge, treatment)}
            require_attachable(bridge)
            await vsctl(ovs, "--", *off.split())
            await seen.until(lambda found: not uses(name)(found))

    run(main())


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_frames_are_matches(feature: Feature) -> None:
    assert bool(feature.frames) is (feature.treatment is Treatment.BEFORE)
    for text in feature.frames:
        assert parse_rule(f"{text},actions=drop").match.conditions
