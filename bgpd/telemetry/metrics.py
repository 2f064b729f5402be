"""What Prometheus reads: the status, as numbers, at the moment of the scrape.

Nothing is counted twice: a collector asks the service's `StatusSource` and turns the answer into samples,
so metrics cannot drift from what `cairn status` says. Conventions: names begin with `cairn_`; a peer is
labelled by its stable name alone and its volatile facts (address, AS number) stand in an `_info` metric
beside; what scrapes would miss is a counter (flaps); moments are timestamps. Every service has a registry
of its own, into which it may also register histograms it observes itself.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bgpd import compiled
from bgpd.telemetry.distribution import Distribution
from bgpd.telemetry.status import PeerStatus, SampleKind, StatusSource

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# RFC 4273's bgpPeerState numbers, which dashboards for other daemons use too.
STATE_NUMBERS = ("IDLE", "CONNECT", "ACTIVE", "OPENSENT", "OPENCONFIRM", "ESTABLISHED")

_ANNOUNCED = (
    "Prefixes announced to the peer. Of a reflector the most it may be: what filters, communities or roles "
    "keep from it, and long-lived stale routes, are counted; `cairn routes out --peer` lists what it is told."
)


class Metrics:
    """A service's registry. `render()` gives the exposition text."""

    def __init__(self, source: StatusSource, *, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(StatusCollector(source, clock))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def render(self) -> bytes:
        return generate_latest(self.registry)


class StatusCollector(Collector):
    """Turns a `StatusSource` into metric families."""

    def __init__(self, source: StatusSource, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock

    def describe(self) -> list[Metric]:
        return []  # the source may not be able to answer yet when it is registered

    def collect(self) -> Iterator[Metric]:
        yield from self._service()
        yield from self._datastore()
        peers = self._source.peers()
        yield from self._sessions(peers)
        yield from self._traffic(peers)
        yield from self._samples()

    def _service(self) -> Iterator[Metric]:
        service = self._source.service()
        labels = {
            "version": service.version,
            "python": platform.python_version(),
            "compiled": "yes" if compiled.in_use() else "no",
            "service": service.service,
        }
        yield InfoMetricFamily("cairn_build", "What is running.", labels)
        identity = {
            "node": service.node,
            "router_id": service.router_id,
            "cluster_id": service.cluster_id,
            "asn": str(service.asn or ""),
        }
        yield InfoMetricFamily("cairn_service", "Who is running it.", identity)
        yield GaugeMetricFamily(
            "cairn_service_start_timestamp_seconds", "When it started.", value=service.started_at
        )
        yield GaugeMetricFamily(
            "cairn_service_healthy", "1 if all its parts answer.", value=float(self._source.healthy()[0])
        )
        yield GaugeMetricFamily(
            "cairn_service_draining",
            "1 if it is not to take traffic.",
            value=float(service.mode != "running"),
        )
        yield CounterMetricFamily(
            "cairn_events", "Events since the start.", value=float(self._source.events.last_id)
        )

    def _datastore(self) -> Iterator[Metric]:
        store = self._source.datastore()
        if store is None:
            return
        yield GaugeMetricFamily(
            "cairn_datastore_current", "1 if what we know is up to date.", value=float(store.current)
        )
        yield GaugeMetricFamily(
            "cairn_datastore_since_timestamp_seconds",
            "Last change of cairn_datastore_current.",
            value=store.since,
        )
        lag = 0.0 if store.current else max(0.0, self._clock() - store.since)
        yield GaugeMetricFamily("cairn_datastore_lag_seconds", "For how long it has not been.", value=lag)
        for name, text, value in (
            ("resyncs", "Times everything was listed again.", store.resyncs),
            ("repairs", "Lost changes that the periodic comparison found.", store.repairs),
            ("reconnects", "Times the watch was opened again.", store.reconnects),
        ):
            yield CounterMetricFamily(f"cairn_datastore_{name}", text, value=float(value))

    def _sessions(self, peers: Sequence[PeerStatus]) -> Iterator[Metric]:
        label = ["peer"]
        state = GaugeMetricFamily(
            "cairn_bgp_peer_state",
            "1 idle, 2 connect, 3 active, 4 opensent, 5 openconfirm, 6 established.",
            labels=label,
        )
        up = GaugeMetricFamily("cairn_bgp_peer_up", "1 if established.", labels=label)
        changed = GaugeMetricFamily(
            "cairn_bgp_peer_last_change_timestamp_seconds", "When it last came up or went down.", labels=label
        )
        uptime = GaugeMetricFamily("cairn_bgp_peer_uptime_seconds", "0 if not established.", labels=label)
        restarting = GaugeMetricFamily(
            "cairn_bgp_peer_restarting", "1 during a graceful restart.", labels=label
        )
        expected = GaugeMetricFamily(
            "cairn_bgp_peer_expected", "0 for peers that come and go as they like.", labels=label
        )
        flaps = CounterMetricFamily("cairn_bgp_peer_flaps", "Times it was lost.", labels=label)
        malformed = CounterMetricFamily(
            "cairn_bgp_peer_malformed", "Path attributes at fault in its UPDATEs (RFC 7606).", labels=label
        )
        lag = GaugeMetricFamily("cairn_bgp_peer_lag_bytes", "What it has yet to be sent.", labels=label)
        facts = ("address", "port", "asn", "local_asn", "kind", "node", "description")
        info = InfoMetricFamily("cairn_bgp_peer", "What changes rarely.", labels=label)
        now = self._clock()
        for peer in peers:
            name = [peer.name]
            number = STATE_NUMBERS.index(peer.state) + 1 if peer.state in STATE_NUMBERS else 0
            state.add_metric(name, number)
            up.add_metric(name, float(peer.established))
            changed.add_metric(name, peer.since)
            uptime.add_metric(name, max(0.0, now - peer.since) if peer.established else 0.0)
            restarting.add_metric(name, float(peer.restarting))
            expected.add_metric(name, float(peer.expected))
            flaps.add_metric(name, peer.flaps)
            malformed.add_metric(name, peer.malformed)
            lag.add_metric(name, peer.lag)
            values = {fact: str(getattr(peer, fact) or "") for fact in facts}
            info.add_metric(name, values)
        yield from (state, up, changed, uptime, restarting, expected, flaps, malformed, lag, info)

    def _traffic(self, peers: Sequence[PeerStatus]) -> Iterator[Metric]:
        per_family = ["peer", "family"]
        for count, text in (
            ("received", "Prefixes the peer announces."),
            ("accepted", "Prefixes that passed our import policy."),
            ("rejected", "Prefixes that did not."),
            ("advertised", _ANNOUNCED),
        ):
            family_of = GaugeMetricFamily(f"cairn_bgp_peer_prefixes_{count}", text, labels=per_family)
            for peer in peers:
                for family in peer.families:
                    family_of.add_metric([peer.name, family.family], getattr(family, count))
            yield family_of
        for way, besides in (("received", ""), ("sent", "; a reflector does not count UPDATEs")):
            text = f"BGP messages {way}, by type{besides}."
            messages = CounterMetricFamily(f"cairn_bgp_peer_messages_{way}", text, labels=["peer", "type"])
            for peer in peers:
                for type, number in sorted(getattr(peer, f"messages_{way}").items()):
                    messages.add_metric([peer.name, type], number)
            yield messages

    def _samples(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in self._source.samples():
            if isinstance(sample, Distribution):
                yield HistogramMetricFamily(
                    f"cairn_{sample.name}", sample.help, buckets=sample.cumulative(), sum_value=sample.sum
                )
                continue
            labels = [name for name, _ in sample.labels]
            family = families.get(sample.name)
            if family is None:
                make = CounterMetricFamily if sample.kind is SampleKind.COUNTER else GaugeMetricFamily
                family = families[sample.name] = make(f"cairn_{sample.name}", sample.help, labels=labels)
            family.add_metric([value for _, value in sample.labels], sample.value)
        yield from families.values()
