"""BGPFilters of a declared reflector, whose sessions carry both IP versions."""

import pytest

from bgpd.plan import plan_node
from reflector.config import ReflectorConfig
from reflector.declared import spec_of
from reflector.member import MemberOptions
from tests.plan.cluster import MESH_OFF, bgp, cluster
from tests.reflector.simulated import SimulatedPeer, reflector, settle

REFUSING_IPV6 = "{importV6: [{action: Reject}], exportV6: [{action: Reject}]}"
REFUSING_IPV4 = "{importV4: [{action: Reject}], exportV4: [{action: Reject}]}"
P4, P6 = "10.1.0.0/24", "2001:db8:1::/48"


def declared(rules: str) -> MemberOptions:
    """The terms of a router in our AS at an IPv4 address, with such a filter."""
    resources = cluster(
        MESH_OFF,
        bgp("rr", 1, ", routeReflectorClusterID: 244.0.0.1"),
        f"kind: BGPFilter\nmetadata: {{name: f}}\nspec: {rules}",
        "kind: BGPPeer\nmetadata: {name: p}\nspec: {peerIP: 192.0.2.1, filters: [f]}",
    )
    config = ReflectorConfig(datastore="/nowhere", node="rr")
    (peer,) = spec_of(plan_node(resources, "rr"), config, {})[0].peers
    return peer.member


@pytest.mark.parametrize(("rules", "passing"), [(REFUSING_IPV6, P4), (REFUSING_IPV4, P6)])
def test_a_rule_of_one_ip_version_is_that_ones_alone_and_holds_on_every_session(
    rules: str, passing: str
) -> None:
    options = declared(rules)
    core = reflector()
    filtered, plain = SimulatedPeer(core, 1, options=options).up(), SimulatedPeer(core, 2).up()
    filtered.announce(P4, P6)
    settle(plain)
    assert plain.prefixes == {passing}
    filtered.withdraw(P4, P6)
    plain.announce(P4, P6)
    settle(filtered)
    assert filtered.prefixes == {passing}


@pytest.mark.parametrize(("asn", "told"), [(65001, {P4}), (None, {P4, "10.2.0.0/24"})])
def test_pools_that_are_not_for_export_stay_within_the_as(asn: int | None, told: set[str]) -> None:
    """A client's filter may let them out for the reflector; another AS hears of them from nobody."""
    resources = cluster(
        MESH_OFF,
        bgp("rr", 1, ", routeReflectorClusterID: 244.0.0.1"),
        "kind: IPPool\nmetadata: {name: hidden}\nspec: {cidr: 10.2.0.0/16, disableBGPExport: true}",
        "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1"
        + (f", asNumber: {asn}}}" if asn is not None else "}"),
    )
    config = ReflectorConfig(datastore="/nowhere", node="rr")
    (peer,) = spec_of(plan_node(resources, "rr"), config, {})[0].peers
    core = reflector()
    router = SimulatedPeer(core, 1, options=peer.member).up()
    client = SimulatedPeer(core, 2).up()
    client.announce(P4, "10.2.0.0/24")
    settle(router)
    assert router.prefixes == told
