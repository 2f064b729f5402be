"""From what a user says to a store: `--datastore`, `CAIRN_DATASTORE`, or Calico's variables.

    /path/to/directory   dir:///path         a directory of YAML files
    etcd://h:2379[,h2:2379…]                 etcd; plaintext without ETCD_CA_CERT_FILE or ETCD_CERT_FILE
    etcds://…  https://…                     etcd with TLS
    ETCD_ENDPOINTS=https://h:2379,https://…  used when no location is given

ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE, ETCD_USERNAME and ETCD_PASSWORD apply to every etcd
location; a password is never taken from a location, where `ps` and logs would show it.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bgpd.datastore.directory import DirectoryStore
from bgpd.datastore.errors import Misconfigured
from bgpd.datastore.etcd_options import Endpoint, EtcdOptions, Timing, Tls
from bgpd.datastore.store import Datastore

_TLS_SCHEMES = frozenset({"etcds", "https"})
_PLAIN_SCHEMES = frozenset({"etcd", "http"})
_CREDENTIALS = "user and password come from ETCD_USERNAME and ETCD_PASSWORD, not from the location"
_MEANT_FOR_ETCD = re.compile(r"(etcds?|https?):/?[^/].*|[^/]+:\d+(,.*)?")


def open_datastore(url: str | None, environ: Mapping[str, str], *, timing: Timing | None = None) -> Datastore:
    """The store at `url`, or at what `environ` says if that is None. Nothing is contacted yet.

    Raises Misconfigured, naming the remedy.
    """
    location = url or environ.get("CAIRN_DATASTORE") or _from_calico(environ)
    if not location:
        raise Misconfigured(
            "no datastore is named: give --datastore (a directory, or etcd://host:2379), "
            "or set CAIRN_DATASTORE or ETCD_ENDPOINTS"
        )
    if _MEANT_FOR_ETCD.fullmatch(location):
        if "@" in location:
            raise Misconfigured(_CREDENTIALS)
        raise Misconfigured(
            f"{location!r} looks like etcd without its scheme: say etcd://HOST:PORT, "
            f"or ./{location} if it is a directory"
        )
    if "://" not in location:
        return DirectoryStore(Path(location).expanduser())
    scheme = location.partition("://")[0].lower()
    if scheme in ("dir", "file"):
        path = unquote(urlsplit(location).netloc + urlsplit(location).path)
        if not path:
            raise Misconfigured(f"{location!r} names no directory, e.g. dir:///etc/cairn/resources")
        return DirectoryStore(Path(path))
    etcd = import_module("bgpd.datastore.etcd_store")  # gRPC, which a directory need not wait for
    store: Datastore = etcd.EtcdStore(etcd_options(location, environ, timing=timing))
    return store


def etcd_options(location: str, environ: Mapping[str, str], *, timing: Timing | None = None) -> EtcdOptions:
    """Endpoints and credentials of an etcd location. Raises Misconfigured."""
    schemes: set[str] = set()
    endpoints: list[Endpoint] = []
    first_scheme = location.partition("://")[0].lower()
    for part in filter(None, (part.strip() for part in location.split(","))):
        scheme, separator, rest = part.rpartition("://")
        scheme = scheme.lower() if separator else first_scheme
        if scheme not in _TLS_SCHEMES | _PLAIN_SCHEMES:
            raise Misconfigured(f"{scheme}:// is no kind of datastore; say etcd://, etcds:// or a directory")
        schemes.add("tls" if scheme in _TLS_SCHEMES else "plain")
        endpoints.append(_endpoint(rest, part))
    if len(schemes) > 1:
        raise Misconfigured(f"{location}: endpoints with and without TLS cannot be mixed")
    if not endpoints:
        raise Misconfigured(f"{location!r} names no endpoint, e.g. etcd://127.0.0.1:2379")
    ca, certificate, key = (
        Path(text) if (text := environ.get(name)) else None
        for name in ("ETCD_CA_CERT_FILE", "ETCD_CERT_FILE", "ETCD_KEY_FILE")
    )
    if (certificate is None) != (key is None):
        raise Misconfigured("a client certificate needs its key: set both ETCD_CERT_FILE and ETCD_KEY_FILE")
    explicit_plain = first_scheme == "http"
    wants_tls = "tls" in schemes or (not explicit_plain and (ca is not None or certificate is not None))
    return EtcdOptions(
        endpoints=tuple(dict.fromkeys(endpoints)),
        tls=Tls(ca, certificate, key) if wants_tls else None,
        user=environ.get("ETCD_USERNAME") or None,
        password=environ.get("ETCD_PASSWORD") or None,
        timing=timing or Timing(),
        spread=True,
    )


def _from_calico(environ: Mapping[str, str]) -> str | None:
    kind = environ.get("DATASTORE_TYPE", "etcdv3")
    endpoints = environ.get("ETCD_ENDPOINTS")
    if kind not in ("etcdv3", "") and not endpoints:
        return None
    if kind == "kubernetes":
        raise Misconfigured("DATASTORE_TYPE=kubernetes is not supported; Cairn reads etcd or a directory")
    if endpoints and "://" not in endpoints:
        return f"http://{endpoints}"
    return endpoints


def _endpoint(text: str, whole: str) -> Endpoint:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Misconfigured(f"{whole!r} is no endpoint: {error}") from error
    if parts.username or parts.password:
        raise Misconfigured(_CREDENTIALS)
    if not host or parts.path.strip("/") or parts.query:
        raise Misconfigured(f"{whole!r} is no endpoint; say etcd://host:2379")
    return Endpoint(host, port or 2379)
