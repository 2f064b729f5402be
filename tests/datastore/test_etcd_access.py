"""Who may speak to etcd: users, passwords, tokens that run out; certificates, right and wrong."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bgpd.datastore import Denied, Misconfigured, Unavailable, etcd_watch, open_datastore
from bgpd.datastore.etcd_client import EtcdClient
from bgpd.datastore.etcd_listing import Listing, list_layout
from bgpd.datastore.etcd_options import Tls
from bgpd.datastore.etcd_ranges import Layout
from bgpd.datastore.etcd_store import EtcdStore
from tests.datastore.authority import Authority, openssl
from tests.datastore.etcd_server import FAST, Etcd, needs_etcd
from tests.datastore.follower import following, node

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
    with pytest.raises(Denied, match="refuses user 'agent'"):
        await store.list()
    await store.close()


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
        ):
            store = EtcdStore(replace(etcd.options(), tls=tls))
            with pytest.raises(Denied, match=message):
                await store.list()
            await store.close()
        with pytest.raises(Unavailable, match="if it wants TLS"):
            await EtcdStore(etcd.options()).list()
    finally:
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
