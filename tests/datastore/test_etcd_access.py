"""Who may speak to etcd: users, passwords, tokens that run out; certificates, right and wrong."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bgpd.datastore import Denied, Misconfigured, TooLarge, Unavailable, etcd_watch, open_datastore
from bgpd.datastore.etcd_client import EtcdClient
from bgpd.datastore.etcd_listing import Listing, list_layout
from bgpd.datastore.etcd_options import Endpoint, Tls
from bgpd.datastore.etcd_ranges import Layout
from bgpd.datastore.etcd_store import EtcdStore
from bgpd.resources import Key, Metadata, decode
from tests.datastore.authority import Authority, openssl
from tests.datastore.etcd_server import FAST, Etcd, needs_etcd
from tests.datastore.follower import following, node, until

pytestmark = needs_etcd


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Etcd]:
    """An etcd with users whose tokens last two seconds."""
    private, public = tmp_path / "jwt.pem", tmp_path / "jwt.pub"
    openssl("genrsa", "-out", private, "2048")
    openssl("rsa", "-in", private, "-pubout", "-out", public)
    token = f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=2s"
    etcd = Etcd(tmp_path / "data", "--auth-token", token)
    etcd.start()
    etcd.control("user", "add", "root:rootpw")
    etcd.control("user", "grant-role", "root", "root")
    etcd.control("role", "add", "cairn")
    for prefix in ("/calico/", "/cairn/"):
        etcd.control("role", "grant-permission", "cairn", "--prefix=true", "readwrite", prefix)
    etcd.control("user", "add", "agent:s3cret")
    etcd.control("user", "grant-role", "agent", "cairn")
    etcd.control("auth", "enable")
    yield etcd
    etcd.kill()


async def test_requests_with_a_token_that_ran_out(guarded: Etcd) -> None:
    store = EtcdStore(replace(guarded.options(), user="agent", password="s3cret"))
    await store.create(node("a"))
    async with following(store) as follower:
        stale = store._client._connect()._token
        await asyncio.sleep(3)
        await store.create(node("b"))
        assert store._client._connect()._token != stale
        await follower.until("a", "b")
    await store.close()


async def test_watch_with_a_token_that_ran_out(guarded: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EtcdStore(replace(guarded.options(), user="agent", password="s3cret"))
    await store.create(node("a"))
    stale = store._client._connect()._token
    await asyncio.sleep(3)
    tampered: list[str | None] = []

    async def list_then_tamper(client: EtcdClient, layout: Layout, *, keys_only: bool = False) -> Listing:
        listing = await list_layout(client, layout, keys_only=keys_only)
        if not tampered:  # the token runs out between listing and watching
            tampered.append(stale)
            client._connect()._token = stale
        return listing

    monkeypatch.setattr(etcd_watch, "list_layout", list_then_tamper)
    async with following(store) as follower:
        await store.create(node("b"))
        await follower.until("a", "b")
        assert tampered == [stale]
        assert store.health().resyncs == 1
    await store.close()


async def test_wrong_or_missing_password_is_said(guarded: Etcd) -> None:
    for user, password, message in (
        ("agent", "wrong", "does not accept the password of user 'agent'"),
        ("stranger", "x", "does not accept the password of user 'stranger'"),
        (None, None, "ETCD_USERNAME"),
    ):
        options = replace(guarded.options(), user=user, password=password)
        assert "wrong" not in repr(options)
        store = EtcdStore(options)
        with pytest.raises(Denied, match=message):
            await store.list()
        await store.close()


async def test_missing_permission_is_said(guarded: Etcd) -> None:
    await asyncio.to_thread(
        guarded.control, "--user", "root:rootpw", "role", "revoke-permission", "cairn", "--prefix", "/calico/"
    )
    store = EtcdStore(replace(guarded.options(), user="agent", password="s3cret"))
    with pytest.raises(Denied, match=r"refuses user 'agent' to read /calico/.* and what follows it"):
        await store.list()
    await store.close()


async def test_the_documented_role_is_enough_for_an_agent(guarded: Etcd) -> None:
    page = (Path(__file__).parents[2] / "docs/tasks/watch.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| an agent |")]
    _, _, read, write, _ = row.split("|")
    root = ("--user", "root:rootpw")
    await asyncio.to_thread(guarded.control, *root, "role", "add", "node")
    for permission, prefixes in (("read", read), ("readwrite", write)):
        for prefix in [word for word in prefixes.split("`") if word.startswith("/")]:
            grant = ("role", "grant-permission", "node", "--prefix=true", permission, prefix)
            await asyncio.to_thread(guarded.control, *root, *grant)
    await asyncio.to_thread(guarded.control, *root, "user", "add", "n1:pw")
    await asyncio.to_thread(guarded.control, *root, "user", "grant-role", "n1", "node")
    declared = EtcdStore(replace(guarded.options(), user="agent", password="s3cret"))
    asked = decode(Key("CalicoNodeStatus", "s"), b'{"spec": {"node": "n1", "classes": ["Agent"]}}')
    await declared.create(asked)
    store = EtcdStore(replace(guarded.options(), user="n1", password="pw"))
    async with following(store) as follower:
        await store.create(node("n1"))
        hold = await store.hold("n1")
        assert await store.secret("bgp", "password") is None
        (entry,) = [entry for entry in follower.view.values() if entry.key == asked.key]
        answer = b'{"spec": {"node": "n1", "classes": ["Agent"]}, "status": {}}'
        await store.update(decode(asked.key, answer), entry.revision)
        at = "2026-01-01T00:00:00Z"
        spec = {"service": "agent", "node": "n1", "reportedAt": at, "since": at, "status": {}}
        report = json.dumps({"spec": spec}).encode()
        await store.create(decode(Key("ServiceReport", "agent.n1"), report))
        await until(lambda: Key("ServiceReport", "agent.n1") in follower.view)
        await hold.release()
    pool = decode(Key("IPPool", "p"), b'{"spec": {"cidr": "10.0.0.0/16"}}')
    with pytest.raises(Denied, match=r"refuses user 'n1' to write /calico/resources/.*/ippools/p \("):
        await store.create(pool)
    await store.close()
    await declared.close()


async def test_too_much_for_one_request_is_said(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "data")
    etcd.start()
    store = EtcdStore(etcd.options())
    large = node("a").model_copy(update={"metadata": Metadata(name="a", annotations={"x": 2_000_000 * "x"})})
    with pytest.raises(TooLarge, match="nothing of it was written"):
        await store.create(large)
    assert (await store.list()).entries == ()
    await store.close()
    etcd.kill()


async def test_an_etcd_whose_space_is_used_up_is_named(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "data", "--quota-backend-bytes", str(1 << 20))
    etcd.start()
    store = EtcdStore(replace(etcd.options(), endpoints=(etcd.endpoint, Endpoint("localhost", etcd.port))))
    try:
        while etcd.control("put", "x", 100_000 * "x", check=False).returncode == 0:
            pass
        for _ in range(2):  # no other member is asked, nor the connection given up
            said = rf"^etcd at {etcd.endpoint}: its space is used up[^:]*`etcdctl alarm disarm`$"
            with pytest.raises(Unavailable, match=said):
                await store.create(node("a"))
        assert (await store.list()).entries == ()
    finally:
        await store.close()
        etcd.kill()


async def test_a_service_restarted_while_etcd_has_no_space_left_stays_alive_in_it(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "data", "--quota-backend-bytes", str(1 << 20))
    etcd.start()
    former, following_one = EtcdStore(etcd.options()), EtcdStore(etcd.options())
    try:
        await former.hold("n1", ttl=1.0)
        while etcd.control("put", "x", 100_000 * "x", check=False).returncode == 0:
            pass
        await former.close()
        hold = await following_one.hold("n1", ttl=1.0)
        with pytest.raises(Unavailable, match="its space is used up"):
            await following_one.hold("n2", ttl=1.0)
        await asyncio.sleep(3.0)
        assert [entry.key.name for entry in (await following_one.list()).entries] == ["n1"]
        await hold.release()
        assert (await following_one.list()).entries == ()
    finally:
        await following_one.close()
        etcd.kill()


def test_grpc_says_nothing_by_itself(tmp_path: Path) -> None:
    """What it does say by itself about an authority that is none, on standard error."""
    authority = tmp_path / "ca.pem"
    authority.write_text("none")
    script = (
        "import asyncio, os\n"
        "from bgpd.datastore import open_datastore, DatastoreError\n"
        "async def main():\n"
        "    store = open_datastore('etcds://127.0.0.1:1', os.environ)\n"
        "    try: await store.list()\n"
        "    except DatastoreError as error: print(error)\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GRPC")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environ, "ETCD_CA_CERT_FILE": str(authority)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "etcd at 127.0.0.1:1" in done.stdout
    assert done.stderr == ""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


def tls_etcd(directory: Path, authority: Authority, address: str = "127.0.0.1") -> Etcd:
    certificate, key = authority.issue("server", address)
    return Etcd(
        directory,
        *("--cert-file", str(certificate), "--key-file", str(key)),
        *("--client-cert-auth", "--trusted-ca-file", str(authority.ca)),
        scheme="https",
    )


async def listed(store: EtcdStore) -> int:
    """List as soon as the server is up."""
    async with asyncio.timeout(60):
        while True:
            try:
                return len((await store.list()).entries)
            except Unavailable:
                await asyncio.sleep(0.1)


async def test_certificates(tmp_path: Path, authority: Authority) -> None:
    certificate, key = await asyncio.to_thread(authority.issue, "client", "127.0.0.1")
    stranger = await asyncio.to_thread(Authority, tmp_path / "theirs")
    strange = await asyncio.to_thread(stranger.issue, "client", "127.0.0.1")
    etcd = await asyncio.to_thread(tls_etcd, tmp_path / "data", authority)
    await asyncio.to_thread(etcd.start, wait=False)
    try:
        environ = {
            "ETCD_ENDPOINTS": f"https://127.0.0.1:{etcd.port}",
            "ETCD_CA_CERT_FILE": str(authority.ca),
            "ETCD_CERT_FILE": str(certificate),
            "ETCD_KEY_FILE": str(key),
        }
        store = open_datastore(None, environ, timing=FAST)
        assert isinstance(store, EtcdStore)
        assert await listed(store) == 0
        async with following(store) as follower:
            await store.create(node("a"))
            await follower.until("a")
        await store.close()
        for tls, message in (
            (Tls(stranger.ca, certificate, key), "not signed by .*theirs/ca.pem; check ETCD_CA_CERT_FILE"),
            (Tls(authority.ca, *strange), "does not accept our client certificate"),
            (Tls(authority.ca), "does not accept our client certificate"),
            (Tls(authority.ca, certificate, strange[1]), "or the key is another one's"),
        ):
            store = EtcdStore(replace(etcd.options(), tls=tls))
            with pytest.raises(Denied, match=message):
                await store.list()
            await store.close()
        with pytest.raises(Unavailable, match="if it wants TLS"):
            await EtcdStore(etcd.options()).list()
    finally:
        etcd.kill()


async def test_whom_a_certificate_stands_for_is_said(tmp_path: Path, authority: Authority) -> None:
    """Where etcd has users and we name none, it takes the certificate's."""
    etcd = await asyncio.to_thread(tls_etcd, tmp_path / "data", authority)
    client = await asyncio.to_thread(authority.issue, "client", "127.0.0.1")
    await asyncio.to_thread(etcd.start, wait=False)
    store = EtcdStore(replace(etcd.options(), tls=Tls(authority.ca, *client)))
    files = [f"--{name}={path}" for name, path in zip(("cert", "key"), client, strict=True)]
    words = ("etcdctl", f"--endpoints=https://127.0.0.1:{etcd.port}", f"--cacert={authority.ca}", *files)
    try:
        await listed(store)
        for command in ("user add root:pw", "user grant-role root root", "auth enable"):
            await asyncio.to_thread(subprocess.run, [*words, *command.split()], check=True)
        with pytest.raises(
            Denied, match=r"refuses the user that our certificate names \(its CN\) to read /cal"
        ):
            await store.list()
    finally:
        await store.close()
        etcd.kill()


async def test_certificate_of_another_name(tmp_path: Path, authority: Authority) -> None:
    etcd = await asyncio.to_thread(tls_etcd, tmp_path / "data", authority, "127.9.9.9")
    client = await asyncio.to_thread(authority.issue, "client", "127.0.0.1")
    await asyncio.to_thread(etcd.start, wait=False)
    store = EtcdStore(replace(etcd.options(), tls=Tls(authority.ca, *client)))
    try:
        with pytest.raises(Denied, match="certificate is for another name"):
            await listed(store)
    finally:
        await store.close()
        etcd.kill()


async def test_unreadable_files_are_named(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path)
    for tls, message in (
        (Tls(tmp_path / "absent.pem"), "ETCD_CA_CERT_FILE .*absent.pem cannot be read"),
        (Tls(None, tmp_path / "cert.pem", None), "set both ETCD_CERT_FILE and ETCD_KEY_FILE"),
    ):
        store = EtcdStore(replace(etcd.options(), tls=tls))
        with pytest.raises(Misconfigured, match=message):
            await store.list()
