"""Faults of a single node, each with an echo every 10 ms from its router to its workload: none is lost."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.datastore.authority import Authority, openssl
from tests.scenario.faults import LONG, long_only
from tests.scenario.harness import calico
from tests.scenario.harness.cairn import Agent
from tests.scenario.harness.echoes import counted, reach
from tests.scenario.harness.lone import (
    BLOCK,
    BLOCK6,
    FAR,
    HOLD_TIME,
    SESSIONS,
    TOR,
    Lone,
    bird_configuration,
    lone_node,
)
from tests.scenario.harness.program import kill_and_wait
from tests.scenario.harness.world import KernelRoute

pytestmark = [
    pytest.mark.scenario,
    *(pytest.mark.peer(name) for name in ("etcd", "bird")),
    pytest.mark.timeout(240),
]
WHILE = (
    HOLD_TIME * 2 + 2 if LONG else HOLD_TIME + 1
)  # seconds a fault lasts that a hold time must not survive


@pytest.fixture
def place() -> Iterator[Lone]:
    with lone_node() as made:
        yield made


@contextmanager
def no_echo_lost(place: Lone, what: str) -> Iterator[None]:
    reach(place.world, place.tor, place.workload)
    with counted(place.world, what, [(place.tor, place.workload)]) as account:
        yield
    assert not account.lost, f"{account}\n{place.world.dump()}"


def steady(place: Lone) -> None:
    """Etcd, the agent and everything declared."""
    place.start_etcd()
    place.declare()
    place.start_agent()
    place.expect()


def test_exabgp_frozen_beyond_the_hold_time(place: Lone) -> None:
    """It is replaced before its peers give up on it."""
    steady(place)
    before = place.exabgp_pids()
    with no_echo_lost(place, f"ExaBGP frozen, hold time {HOLD_TIME} s, for {WHILE} s"):
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        place.world.wait_until("ExaBGP replaced", lambda: not set(place.exabgp_pids()) & set(before))
        place.expect()
        if LONG:
            time.sleep(WHILE)
            place.expect()
    assert place.agent is not None
    assert place.agent.said("exabgp failed", "was silent")


def test_workloads_that_claim_the_addresses_the_node_lives_by(place: Lone) -> None:
    """Its router's, its default gateway's and etcd's: it stays in touch with all of them, and says so."""
    steady(place)
    agent = place.agent
    assert agent is not None
    place.node.ip("addr add 10.3.0.11/24 dev eth0", "route add default via 10.3.0.1")
    claimed = {"10.1.0.1": "BGPPeer tor-ipv4", "10.1.0.2": "etcd", "10.3.0.1": "a gateway on eth0"}
    place.add([f"{address}/32" for address in claimed], "greedy")
    remarks = [f"{address} is the address of {whose}: neither" for address, whose in claimed.items()]
    place.world.wait_until("remarks", lambda: all(agent.said("has a remark", text) for text in remarks), 30)
    place.add(["10.244.1.6", "10.244.9.9"], "modest")
    place.expect("10.244.9.9/32")  # heard through etcd, told to the router
    routes = {f"{address}/32" for address in claimed}
    place.world.wait_until("no routes to them", lambda: not routes & place.learned(), 30)
    place.node.ip("route del default")
    place.world.wait_until(
        "a route to what is a gateway no more", lambda: "10.3.0.1/32" in place.learned(), 30
    )
    assert agent.sessions() == dict.fromkeys(TOR.values(), True)


def test_an_agent_restarted_while_what_is_declared_cannot_be_read(place: Lone) -> None:
    """It counts as before the restart; one that knows no former version of the settings waits for them."""
    steady(place)
    assert place.etcd is not None
    assert place.agent is not None
    world, etcd, agent = place.world, place.etcd, place.agent
    unreadable = (
        calico.bgp_configuration(asNumber="many"),
        calico.altered(calico.ip_pool("workloads", "10.244.0.0/16"), cidr="10.244.0.0/33"),
        calico.bgp_peer("tor-ipv6", peerIP="fd10:1::1", asNumber=-1),
    )
    with no_echo_lost(place, "agent restarted while settings, a pool and a peer cannot be read"):
        for entry in unreadable:
            etcd.put(entry)
        world.wait_until(
            "complaints",
            lambda: all(agent.said("cannot be read", f"/{n}:") for n in ("default", "workloads", "tor-ipv6")),
        )
        agent.program.stop()
        agent.restart()
        place.add(["10.244.9.9"], "w9")
        place.expect("10.244.9.9/32")
        assert agent.said("counts as before the restart", "IPPool workloads")
    etcd.delete(*unreadable[-1])
    world.wait_equal("sessions", place.bird.sessions, {**SESSIONS, "fd10:1::11": False}, 60)
    world.wait_equal("routes of the router", place.announced, {BLOCK, "10.244.9.9/32"}, 60)
    place.declare_router()
    place.expect("10.244.9.9/32")
    with no_echo_lost(place, "and once more, without its run directory, until the settings are repaired"):
        agent.program.kill()
        for pid in place.exabgp_pids():
            kill_and_wait(pid)
        shutil.rmtree(place.node.directory / "exabgp")
        agent.restart()
        world.wait_until("it waits", lambda: agent.said("no plan can be made", "/default:", "repaired"), 60)
        assert FAR in place.learned()
        place.declare()
        place.expect("10.244.9.9/32")


def test_a_second_machine_given_the_nodes_name_and_another_address_waits_for_its_end(place: Lone) -> None:
    """It would put out a node that runs; when that leaves, the name is its own."""
    steady(place)
    world, agent = place.world, place.agent
    assert agent is not None
    up = place.bird.since()
    with no_echo_lost(place, "a second machine started with the name of the node"):
        run = str(place.infra.directory / "exabgp")
        file = place.configuration(ipv4="10.1.0.2/24", exabgp={"runDirectory": run})
        second = Agent(place.infra, file)
        world.wait_until("it says so", lambda: second.said("another machine lives as this node", "10.1.0.11"))
        time.sleep(5.0)
        assert (place.bird.since(), place.bird.sessions()) == (up, SESSIONS)
        agent.program.stop()  # a restart is no end
        agent.restart()
        place.expect()
        assert not second.said("node registered")
    agent.program.stop()
    world.wait_until("the second is the node", lambda: second.said("node registered", "10.1.0.2/24"), 30)


@long_only
def test_a_time_of_day_that_jumps(place: Lone) -> None:
    """No session ends. The time of day of the agent and of ExaBGP is what a file says it is off by."""
    offset = place.node.write("offset", "0")
    tamper = place.node.directory / "tamper"
    tamper.mkdir()
    (tamper / "sitecustomize.py").write_text(
        "import pathlib, time\n_true = time.time\n"
        f"def _told():\n    return _true() + float(pathlib.Path({str(offset)!r}).read_text() or 0)\n"
        "time.time = _told\n"
    )
    place.start_etcd()
    place.declare()
    path = os.pathsep.join(filter(None, (str(tamper), os.environ.get("PYTHONPATH"))))
    place.start_agent({"PYTHONPATH": path})
    place.expect()
    before, up = place.exabgp_pids(), place.bird.since()
    with no_echo_lost(place, f"time of day a day ahead, then a day behind for {WHILE} s"):
        for jump in (86400, -86400):
            offset.write_text(str(jump))
            time.sleep(2.0 if jump > 0 else WHILE)
        assert (place.bird.since(), place.exabgp_pids()) == (up, before)


@long_only  # tests/datastore has each by itself
def test_etcd_with_tokens_that_expire_and_wrong_certificates(place: Lone, tmp_path: Path) -> None:
    """A token's time is over every 2 s; then an expired certificate, then one of another authority."""
    authority = Authority(tmp_path / "ours")
    used = tmp_path / "used"
    used.mkdir()

    def install(issuer: Authority, days: int = 2) -> None:
        for file, name in zip(
            issuer.issue("server", "10.1.0.2", days), ("server.pem", "server.key"), strict=True
        ):
            shutil.copy(file, used / name)

    install(authority)
    shutil.copy(authority.ca, used / "ca.pem")
    private, public = tmp_path / "jwt.pem", tmp_path / "jwt.pub"
    openssl("genrsa", "-out", private, "2048")
    openssl("rsa", "-in", private, "-pubout", "-out", public)
    etcd = place.start_etcd(
        settings=(
            *("--cert-file", str(used / "server.pem"), "--key-file", str(used / "server.key")),
            *("--auth-token", f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=2s"),
        ),
        client=("--insecure-skip-tls-verify", "--insecure-transport=false"),
        tls=True,
    )
    place.declare()
    for words in (
        ("user", "add", "root:rootpw"), ("user", "grant-role", "root", "root"), ("role", "add", "cairn"),
        ("role", "grant-permission", "cairn", "--prefix=true", "readwrite", "/calico/"),
        ("role", "grant-permission", "cairn", "--prefix=true", "readwrite", "/cairn/"),
        ("user", "add", "agent:s3cret"), ("user", "grant-role", "agent", "cairn"), ("auth", "enable"),
    ):  # fmt: skip
        etcd.control(*words)
    etcd.client = (*etcd.client, "--user", "root:rootpw")
    agent = place.start_agent(
        {
            "ETCD_ENDPOINTS": etcd.url,
            "ETCD_CA_CERT_FILE": str(used / "ca.pem"),
            "ETCD_USERNAME": "agent",
            "ETCD_PASSWORD": "s3cret",
        },
        datastore=None,
    )
    place.expect()
    up = place.bird.since()
    with no_echo_lost(place, "etcd's token expired, its certificate expired, then of another authority"):
        time.sleep(3.0)
        place.add(["10.244.9.1"], "token")
        place.expect("10.244.9.1/32")

        etcd.program.kill()
        install(authority, -1)
        etcd.restart()
        place.world.wait_until("a word on the certificate", lambda: agent.said("expired"), 60)
        place.add(["10.244.9.2"], "expired")

        etcd.program.kill()
        stranger = Authority(tmp_path / "theirs")
        install(stranger)
        etcd.restart()
        place.world.wait_until("a word on the authority", lambda: agent.said("not signed by"), 60)
        assert place.announced() >= {BLOCK, "10.244.9.1/32"}
        assert "10.244.9.2/32" not in place.announced()
        shutil.copy(stranger.ca, used / "ca.pem")
        place.expect("10.244.9.1/32", "10.244.9.2/32")
    assert place.bird.since() == up, "no session may end"


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A file system of 64 KiB."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_disk_full(place: Lone) -> None:
    """ExaBGP is killed and started again all the same; a changed declaration waits until there is room."""
    run = place.node.directory / "exabgp"
    with ExitStack() as stack:
        stack.enter_context(small_disk(run))
        steady(place)
        agent = place.agent
        assert agent is not None
        with no_echo_lost(place, "the disk of ExaBGP's files full, ExaBGP killed"):
            filler = run / "filler"
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(b"x" * 100_000)
            before = place.exabgp_pids()
            for pid in before:
                kill_and_wait(pid)
            place.world.wait_until("ExaBGP again", lambda: len(place.exabgp_pids()) == len(before), 60)
            place.expect()
            place.declare_router(keepaliveTime="4s")
            place.world.wait_until("a word on the disk", lambda: agent.said("No space left"), 60)
            place.add(["10.244.9.1"], "late")
            filler.unlink()
            place.expect("10.244.9.1/32")
            place.world.wait_until("another hold time", lambda: "12" in hold_timers(place), 60)
            place.expect("10.244.9.1/32")
        agent.program.stop()


def hold_timers(place: Lone) -> set[str]:
    """The hold times of the router's sessions, as negotiated."""
    lines = place.bird.command("show protocols all").splitlines()
    return {line.split("/")[-1].strip() for line in lines if "Hold timer:" in line}


def test_a_node_started_with_an_odd_past_and_one_thing_wrong_after_the_other(place: Lone) -> None:
    """Routes of a former life and of another daemon in the table; no etcd, a wrong password, no peers."""
    node, world = place.node, place.world
    inside = [f"{address} dev caliw1" for address in place.workload.addresses]
    gone = {"10.244.50.0/26": "via 10.1.0.1", "10.244.9.9/32": "dev eth0"}
    stale = [*(f"{prefix} {way}" for prefix, way in gone.items()), f"{FAR} via 10.1.0.99"]
    own = [*inside, f"blackhole {BLOCK}"]
    node.ip(*(f"route add {route} proto 179 metric 1024" for route in (*stale, *own)))
    foreign = ("203.0.113.0/24 via 10.1.0.1 metric 32", "10.244.1.77 via 10.1.0.1 metric 1024")
    node.ip(*(f"route add {route} proto bird" for route in foreign))
    ways = {BLOCK: "10.1.0.11", BLOCK6: "fd10:1::11"}
    place.tor.ip(*(f"route add {block} via {way} metric 9999" for block, way in ways.items()))

    def strangers() -> list[KernelRoute]:
        return node.kernel_routes(protocol="bird")

    others, former = strangers(), place.learned()
    password = node.write("tor", "wrong")
    secrets = node.directory / "secrets" / "bgp"
    secrets.mkdir(parents=True)
    password = password.rename(secrets / "tor")
    place.bird.configure(bird_configuration(password="s3cret"))
    with no_echo_lost(place, "a node with an odd past started without etcd, then with a wrong password"):
        agent = place.start_agent(secrets={"directory": str(secrets.parent)})
        world.wait_until("a word on etcd", lambda: agent.said("10.1.0.2:2379", "reason"), 60)
        time.sleep(6.0)  # more than syncWait: that counts from when it is known who is a peer
        assert place.learned() == former, "nobody has said what may go"

        etcd = place.start_etcd()
        place.declare_node()
        world.wait_until("a word on the lack of peers", lambda: agent.said("no peers"), 60)
        place.declare_router(password={"secretKeyRef": {"name": "bgp", "key": "tor"}})
        place.add(["10.244.1.77"], "taken")
        world.wait_until("the node's own routes", lambda: BLOCK6 in place.learned(), 60)
        world.wait_until("a word on the other daemon", lambda: agent.said("someone else"), 60)
        time.sleep(6.0)  # more than syncWait
        assert not any(place.bird.sessions().values())
        world.wait_until("a word on the peer", lambda: agent.said("no session came about", "password"), 60)
        assert place.learned() >= former, "nobody has told what else there is"

        password.write_text("s3cret")
        agent.program.stop()
        agent.restart()
        world.wait_equal("sessions", place.bird.sessions, SESSIONS, 60)
        world.wait_until("routes of a former life gone", lambda: not set(gone) & place.learned(), 60)
        assert node.next_hops(FAR) == {("10.1.0.1", "eth0")}

        etcd.delete(*(key for name in TOR for key in calico.bgp_peer(name)))
        world.wait_until("the router's routes gone", lambda: FAR not in place.learned(), 60)
        world.wait_until("a word on the lack of peers", lambda: agent.said("no peers"), 60)
    assert strangers() == others, "another daemon's routes are not touched"
