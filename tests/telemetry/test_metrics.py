"""What a scrape says, read back with the parser Prometheus' own client brings."""

from prometheus_client.parser import text_string_to_metric_families

from bgpd.telemetry.metrics import Metrics
from tests.telemetry.source import Source, peer


def scrape(source: Source) -> dict[str, float]:
    text = Metrics(source, clock=lambda: 1110.0).render().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_sessions_and_prefixes() -> None:
    source = Source()
    source.peer_list = [
        peer("rr1"),
        peer("tor", "ACTIVE", families=(), messages_received={}, messages_sent={}),
    ]
    found = scrape(source)
    assert found["cairn_bgp_peer_state{peer=rr1}"] == 6
    assert found["cairn_bgp_peer_state{peer=tor}"] == 3
    assert found["cairn_bgp_peer_up{peer=rr1}"] == 1
    assert found["cairn_bgp_peer_up{peer=tor}"] == 0
    assert found["cairn_bgp_peer_uptime_seconds{peer=rr1}"] == 100
    assert found["cairn_bgp_peer_uptime_seconds{peer=tor}"] == 0
    assert found["cairn_bgp_peer_flaps_total{peer=rr1}"] == 2
    assert found["cairn_bgp_peer_last_change_timestamp_seconds{peer=tor}"] == 1010
    assert found["cairn_bgp_peer_lag_bytes{peer=rr1}"] == 17
    prefixes = {
        kind: found[f"cairn_bgp_peer_prefixes_{kind}{{family=ipv4-unicast,peer=rr1}}"]
        for kind in ("received", "accepted", "rejected", "advertised")
    }
    assert prefixes == {"received": 10, "accepted": 8, "rejected": 2, "advertised": 3}
    assert found["cairn_bgp_peer_messages_received_total{peer=rr1,type=keepalive}"] == 9
    assert found["cairn_bgp_peer_messages_sent_total{peer=rr1,type=update}"] == 1
    info = [name for name in found if name.startswith("cairn_bgp_peer_info{") and "peer=rr1" in name]
    assert len(info) == 1
    assert "address=10.0.0.2,asn=64512" in info[0]


def test_service_datastore_and_own_samples() -> None:
    source = Source()
    source.ring.add(1.0, "x", "x")
    found = scrape(source)
    assert found["cairn_service_healthy{}"] == 1
    assert found["cairn_service_start_timestamp_seconds{}"] == 1000
    assert found["cairn_events_total{}"] == 1
    assert found["cairn_datastore_current{}"] == 0
    assert found["cairn_datastore_lag_seconds{}"] == 160
    assert (found["cairn_datastore_resyncs_total{}"], found["cairn_datastore_repairs_total{}"]) == (2, 1)
    assert found["cairn_exabgp_restarts_total{}"] == 4
    assert found["cairn_kernel_routes{state=wanted}"] == 5
    assert found["cairn_kernel_routes{state=present}"] == 6
    assert any(name.startswith("cairn_build_info{") and "version=1.2.3" in name for name in found)
    source.store = None
    assert "cairn_datastore_current{}" not in scrape(source)


def test_registries_do_not_meet() -> None:
    first, second = Source(), Source()
    second.health = (False, "gone")
    assert scrape(first)["cairn_service_healthy{}"] == 1
    assert scrape(second)["cairn_service_healthy{}"] == 0
