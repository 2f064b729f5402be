"""What the lab reads out of kernels, and how it compares that with what the script demands."""

import json
from ipaddress import IPv4Network

from ctl.lab.layout import Mode, lay_out
from ctl.lab.observer import differences, expected, kernel_routes
from ctl.lab.script import AddWorkload, Cluster, MoveWorkload

LISTING = json.dumps(
    [
        {"dst": "default", "gateway": "10.200.1.1", "dev": "eth0", "flags": []},
        {"dst": "10.200.1.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link", "flags": []},
        {"type": "blackhole", "dst": "10.77.1.0/26", "protocol": "80", "flags": []},
        {"dst": "10.77.1.1", "dev": "caliweb1", "protocol": "80", "scope": "link", "flags": []},
        {"dst": "10.77.2.0/26", "gateway": "10.200.1.1", "dev": "eth0", "protocol": "80", "flags": []},
        {
            "dst": "10.77.3.0/26",
            "protocol": "80",
            "flags": [],
            "nexthops": [
                {"gateway": "10.200.3.2", "dev": "b", "weight": 1, "flags": []},
                {"gateway": "10.200.2.2", "dev": "a", "weight": 1, "flags": []},
            ],
        },
    ]
)


def test_only_routes_to_workloads_are_read_and_all_of_them() -> None:
    assert kernel_routes(LISTING) == {
        IPv4Network("10.77.1.0/26"): "blackhole",
        IPv4Network("10.77.1.1/32"): "dev caliweb1",
        IPv4Network("10.77.2.0/26"): "via 10.200.1.1",
        IPv4Network("10.77.3.0/26"): "via 10.200.2.2 + via 10.200.3.2",
    }
    assert kernel_routes("") == {}


def test_the_script_is_put_into_the_same_words() -> None:
    layout = lay_out(3, 1, Mode.NAMESPACES)
    cluster = Cluster.of(layout).after(AddWorkload("web1", "node1")).after(MoveWorkload("web1", "node2"))
    block, web1 = IPv4Network("10.77.1.0/26"), IPv4Network("10.77.1.1/32")
    assert expected(cluster, layout, layout.member("node1")) == {block: "blackhole", web1: "via 10.200.1.1"}
    assert expected(cluster, layout, layout.member("node2")) == {
        block: "via 10.200.2.1",
        web1: "dev caliweb1",
    }
    assert expected(cluster, layout, layout.member("router")) == {
        block: "via 10.200.1.2",
        web1: "via 10.200.2.2",
    }


def test_without_a_router_nodes_are_each_others_gateways() -> None:
    layout = lay_out(2, 1, Mode.LOOPBACK)
    cluster = Cluster.of(layout).after(AddWorkload("web1", "node1"))
    assert expected(cluster, layout, layout.member("node2")) == {
        IPv4Network("10.77.1.0/26"): "via 127.200.0.1"
    }


def test_a_missing_a_wrong_and_a_surplus_route_are_differences() -> None:
    a, b, c = (IPv4Network(f"10.77.{number}.0/26") for number in (1, 2, 3))
    assert differences({a: "via x", b: "via y"}, {a: "via x", b: "via z", c: "blackhole"}) == [
        "10.77.2.0/26: via y, wanted via z",
        "10.77.3.0/26: no route, wanted blackhole",
    ]
    assert differences({a: "via x"}, {}) == ["10.77.1.0/26: via x, wanted no route"]
    assert differences({a: "via x"}, {a: "via x"}) == []


def test_a_host_route_beside_its_block_is_no_difference() -> None:
    block, host = IPv4Network("10.77.1.0/26"), IPv4Network("10.77.1.1/32")
    assert differences({block: "via a", host: "via a"}, {block: "via a"}) == []
    assert differences({block: "via a", host: "via b"}, {block: "via a"}) != []
    assert differences({host: "via a"}, {}) != []
    assert differences({block: "via a"}, {block: "via a", host: "via a"}) != []
