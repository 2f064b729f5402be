"""Requests to an etcd cluster over raw keys and bytes: endpoints, credentials, deadlines, clear errors.

One `Connection` (a gRPC channel to one endpoint) is in use at a time. When it fails, it is retired and
the next request opens one to the next endpoint; those still using the retired one finish on it, and the
last of them closes it, because closing a channel cancels whatever runs on it. Each request has a
deadline and tries every endpoint once before it raises `Unavailable`.

gRPC's asyncio flavour runs etcd3's stub classes unchanged, so no threads are needed and nothing blocks
the loop but the parsing of an answer (kept short by listing in pages).

Credentials: the token travels as metadata, which works over plaintext too (gRPC refuses call credentials
there); a token that ran out is fetched again once per request. `hasleader` asks a member that is cut off
from its cluster to refuse rather than serve old data. Needs etcd 3.4 or later.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio

from bgpd.datastore.errors import DatastoreError, Denied, Misconfigured, TooLarge, Unavailable
from bgpd.datastore.etcd_options import Endpoint, EtcdOptions, Tls
from bgpd.datastore.etcd_stubs import rpc, services

_log = logging.getLogger(__name__)

_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
_TLS_WORDS = ("ssl", "handshake", "tls", "tsi_", "certificate", "peer name", "verification")
_NO_WAY = {  # in gRPC's words, and in ours
    "connection refused": "nothing listens there",
    "network is unreachable": "no route leads there",
    "no route to host": "no host answers there; see that it is up and no firewall refuses",
    "internal error from core": "it ended the request before it had all of it; its log says why",
    "stream removed": "it hung up; was it stopped, or restarted?",
    "no leader": "it knows of no leader; too many members are down, or it is cut off from them",
    "not supported for learner": "it is a learner, which answers nobody; promote it, or name other endpoints",
}
_NO_SPACE = "database space exceeded"
_TOKEN_TROUBLE = ("invalid auth token", "revision of auth store is old", "user name is empty")


class Compacted(DatastoreError):
    """The asked-for revision is no longer kept; list again. Never leaves this package."""


class NoSpace(Unavailable):
    """Nothing can be written until somebody makes room; outside of this package an `Unavailable`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response message and whether an earlier try of the same request may have been carried out too."""

    message: Any
    repeated: bool


class Connection:
    """A channel to one endpoint with its stubs and its token."""

    def __init__(self, endpoint: Endpoint, options: EtcdOptions) -> None:
        self.endpoint = endpoint
        self._options = options
        self._channel = _open_channel(endpoint, options)
        self._login = asyncio.Lock()
        self._token: str | None = None
        self._logged_in = options.user is None
        self._watch = services.WatchStub(self._channel)
        self._lease = services.LeaseStub(self._channel)
        self._auth = services.AuthStub(self._channel)
        key_value = services.KVStub(self._channel)
        self._unary = {
            rpc.RangeRequest: key_value.Range,
            rpc.TxnRequest: key_value.Txn,
            rpc.LeaseGrantRequest: self._lease.LeaseGrant,
            rpc.LeaseRevokeRequest: self._lease.LeaseRevoke,
        }
        self.users = 0
        self.retired = False

    async def unary(self, request: Any) -> Any:
        """Send one request; raises grpc.aio.AioRpcError."""
        metadata = await self._metadata()
        return await self._unary[type(request)](
            request, timeout=self._options.timing.request, metadata=metadata
        )

    async def watch(self) -> Any:
        """Open a Watch stream (no request is sent yet)."""
        return self._watch.Watch(metadata=await self._metadata())

    async def keep_alive(self, lease: int) -> float:
        """Refresh a lease once; the time it has now in seconds, 0 if it is gone."""
        timeout = self._options.timing.request
        call = self._lease.LeaseKeepAlive(metadata=await self._metadata(), timeout=timeout)
        try:
            await call.write(rpc.LeaseKeepAliveRequest(ID=lease))
            await call.done_writing()
            answer = await call.read()
            with suppress(grpc.aio.AioRpcError):
                await call.read()  # its end: etcd counts a call that is given up among those that failed
        finally:
            call.cancel()
        return 0.0 if answer is grpc.aio.EOF else float(answer.TTL)

    def forget_token(self) -> None:
        self._token = None
        self._logged_in = self._options.user is None

    async def close(self) -> None:
        await self._channel.close()

    async def _metadata(self) -> list[tuple[str, str]]:
        async with self._login:
            if not self._logged_in:
                await self._authenticate()
        metadata = [("hasleader", "true")]
        if self._token is not None:
            metadata.append(("token", self._token))
        return metadata

    async def _authenticate(self) -> None:
        request = rpc.AuthenticateRequest(name=self._options.user, password=self._options.password or "")
        try:
            answer = await self._auth.Authenticate(request, timeout=self._options.timing.request)
            self._token = answer.token
        except grpc.aio.AioRpcError as error:
            if "authentication is not enabled" not in (error.details() or ""):
                raise
            self._token = None  # a cluster without users lets everybody in; so it is no error here
        self._logged_in = True


class EtcdClient:
    """The cluster, through whichever endpoint answers."""

    def __init__(self, options: EtcdOptions) -> None:
        if not options.endpoints:
            raise Misconfigured("an etcd location needs at least one endpoint, e.g. etcd://127.0.0.1:2379")
        self.options = options
        self._endpoints = list(options.endpoints)
        if options.spread:
            Random().shuffle(self._endpoints)  # noqa: S311 - spreads load, keeps no secret
        self._next = 0
        self._current: Connection | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def endpoint(self) -> str:
        """The endpoint in use, or the one that will be tried next."""
        if self._current is not None:
            return str(self._current.endpoint)
        return str(self._endpoints[self._next])

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Use the present connection; it stays open until the block is left, also when retired."""
        connection = self._connect()
        connection.users += 1
        try:
            yield connection
        finally:
            connection.users -= 1
            self._close_if_unused(connection)

    def retire(self, connection: Connection) -> None:
        """`connection` failed: from now on the next endpoint is used."""
        if connection is self._current:
            self._current = None
            self._next = (self._next + 1) % len(self._endpoints)
        connection.retired = True
        self._close_if_unused(connection)

    async def request(self, message: Any) -> Answer:
        """Send `message` (a stub's request), trying each endpoint once.

        Raises Unavailable, Denied, Compacted, TooLarge or DatastoreError.
        """
        failures: list[str] = []
        repeated = False
        for _ in self.options.endpoints:
            async with self.connection() as connection:
                try:
                    return Answer(await self._authorised(connection, message), repeated)
                except grpc.aio.AioRpcError as error:
                    failure = self.explain(connection, error, _purpose(message))
                    passing = error.code() in _TRANSIENT and not isinstance(failure, NoSpace)
                    if not passing or not isinstance(failure, Unavailable | Denied):
                        raise failure from error  # what every member says
                    failures.append(str(failure))
                    denied = isinstance(failure, Denied)
                    repeated = repeated or not _never_sent(error)
                    self.retire(connection)
        raise (Denied if denied else Unavailable)("; ".join(sorted(failures)))

    async def keep_alive(self, lease: int) -> float:
        """See `Connection.keep_alive`; raises Unavailable or Denied."""
        async with self.connection() as connection:
            try:
                return await connection.keep_alive(lease)
            except grpc.aio.AioRpcError as error:
                if _is_token_trouble(error):
                    connection.forget_token()
                else:
                    self.retire(connection)
                raise self.explain(connection, error) from error

    def explain(
        self, connection: Connection, error: grpc.aio.AioRpcError, purpose: str = ""
    ) -> DatastoreError:
        """Turn a gRPC error into ours, naming place and remedy. `purpose`: what was to be done."""
        return _explain(connection.endpoint, self.options, error, purpose)

    async def close(self) -> None:
        """Close the connection; requests still running on it end with an error."""
        self._closed = True
        connection, self._current = self._current, None
        if connection is not None:
            await connection.close()
        if self._closing:
            await asyncio.wait(self._closing)

    def _connect(self) -> Connection:
        if self._closed:
            raise Unavailable(f"{self.options.location}: the datastore was closed")
        if self._current is None:
            self._current = Connection(self._endpoints[self._next], self.options)
        return self._current

    def _close_if_unused(self, connection: Connection) -> None:
        if connection.retired and connection.users == 0:
            task = asyncio.get_running_loop().create_task(connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _authorised(self, connection: Connection, message: Any) -> Any:
        try:
            return await connection.unary(message)
        except grpc.aio.AioRpcError as error:
            if self.options.user is None or not _is_token_trouble(error):
                raise
        connection.forget_token()
        return await connection.unary(message)


def _is_token_trouble(error: grpc.aio.AioRpcError) -> bool:
    details = error.details() or ""
    return any(text in details for text in _TOKEN_TROUBLE)


def _never_sent(error: grpc.aio.AioRpcError) -> bool:
    """True only if the request surely did not reach the server."""
    details = error.details() or ""
    return error.code() is grpc.StatusCode.UNAVAILABLE and (
        "failed to connect" in details.lower() or "connection refused" in details.lower()
    )


def _purpose(message: Any) -> str:
    """What a request is for, with the keys a role would need."""
    match message:
        case rpc.RangeRequest():
            whole = message.range_end and message.range_end != message.key + b"\0"
            return f"to read {_shown(message.key)}{' and what follows it' if whole else ''}"
        case rpc.TxnRequest():
            keys = [
                operation.request_put.key or operation.request_delete_range.key
                for operation in message.success
            ]
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            return f"to write {_shown(keys[0])}{more}" if keys else ""
        case _:
            return ""


def _shown(key: bytes) -> str:
    text = key.decode("utf-8", "replace")
    return text if text.isprintable() else ascii(text)


def _explain(
    endpoint: Endpoint, options: EtcdOptions, error: grpc.aio.AioRpcError, purpose: str
) -> DatastoreError:
    code, details = error.code(), error.details() or ""
    place = f"etcd at {endpoint}"
    lower = details.lower()
    if "has been compacted" in lower:
        return Compacted(f"{place}: {details}")
    if "too many operations" in lower:
        return TooLarge(f"{place}: more operations in one transaction than it allows (--max-txn-ops)")
    if "request is too large" in lower or "message larger than max" in lower:
        what = "more octets in one transaction than it takes (--max-request-bytes, 1.5 MiB if not set)"
        return TooLarge(f"{place}: {what}; nothing of it was written")
    if options.tls is not None and any(text in lower for text in _TLS_WORDS):
        return Denied(f"{place}: {_tls_remedy(options.tls, lower)} ({details})")
    if "authentication failed" in lower:
        return Denied(f"{place}: it does not accept the password of user {options.user!r}")
    if "user name is empty" in lower:
        return Denied(f"{place}: it asks for a user; set ETCD_USERNAME and ETCD_PASSWORD")
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        named = options.tls is not None and options.tls.certificate is not None
        nobody = "the user that our certificate names (its CN)" if named else "us"
        who = f"user {options.user!r}" if options.user else nobody
        return Denied(
            f"{place}: it refuses {who}{purpose and f' {purpose}'} ({details}); grant a role that allows it"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"{place}: no answer within {options.timing.request:g} s")
    if _NO_SPACE in lower:
        remedy = "compact and defragment it, or raise its quota, then `etcdctl alarm disarm`"
        return NoSpace(f"{place}: its space is used up, it takes no writes; {remedy}")
    if code in _TRANSIENT:
        hung_up = "failed to connect" in lower and ("closed" in lower or "reset by peer" in lower)
        hint = "; if it wants TLS, say etcds:// or https://" if hung_up and options.tls is None else ""
        known = next((ours for theirs, ours in _NO_WAY.items() if theirs in lower), details + hint)
        return Unavailable(f"{place}: {known}")
    return DatastoreError(f"{place}: {details or code.name}")


def _tls_remedy(tls: Tls, details: str) -> str:
    if "security handshaker" in details:  # gRPC does not even try with them
        return (
            "ETCD_CA_CERT_FILE, ETCD_CERT_FILE or ETCD_KEY_FILE is no PEM file, or the key is another one's"
        )
    if "certificate_verify_failed" in details or "unable to get local issuer" in details:
        return f"its certificate is not signed by {tls.ca or 'a known authority'}; check ETCD_CA_CERT_FILE"
    if "peer name" in details or "hostname" in details:
        return "its certificate is for another name; use a name or address the certificate lists"
    if "wrong_version_number" in details or "wrong version" in details:
        return "it does not speak TLS; say etcd:// or http:// if plaintext is meant"
    # A server that wants another client certificate than ours says so only after the TLS 1.3 handshake.
    if "unwrap failed" in details:
        return "it does not accept our client certificate; check ETCD_CERT_FILE and ETCD_KEY_FILE"
    if "certificate" in details and ("required" in details or "bad" in details or "unknown" in details):
        return "it does not accept our client certificate; check ETCD_CERT_FILE and ETCD_KEY_FILE"
    return (
        "no TLS connection could be made; check ETCD_CERT_FILE and ETCD_KEY_FILE, and whether it does "
        "speak TLS (if not, say etcd:// or http://)"
    )


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{name} {path} cannot be read: {error.strerror}") from error


def _open_channel(endpoint: Endpoint, options: EtcdOptions) -> Any:
    timing = options.timing
    arguments = [
        ("grpc.keepalive_time_ms", int(timing.keepalive * 1000)),
        ("grpc.keepalive_timeout_ms", int(timing.keepalive_timeout * 1000)),
        ("grpc.keepalive_permit_without_calls", 0),  # etcd ends a connection that pings without a call
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_http_proxy", 0),  # a datastore inside the cluster is never behind one
        ("grpc.use_local_subchannel_pool", 1),  # a new connection is new, not a shared one in back-off
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if options.tls is None:
        return grpc.aio.insecure_channel(str(endpoint), options=arguments)
    return grpc.aio.secure_channel(str(endpoint), _credentials(options.tls), options=arguments)


def _credentials(tls: Tls) -> Any:
    if (tls.certificate is None) != (tls.key is None):
        raise Misconfigured("a client certificate needs its key: set both ETCD_CERT_FILE and ETCD_KEY_FILE")
    return grpc.ssl_channel_credentials(
        root_certificates=None if tls.ca is None else _read(tls.ca, "ETCD_CA_CERT_FILE"),
        private_key=None if tls.key is None else _read(tls.key, "ETCD_KEY_FILE"),
        certificate_chain=None if tls.certificate is None else _read(tls.certificate, "ETCD_CERT_FILE"),
    )
