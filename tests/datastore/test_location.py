"""From words to stores."""

import subprocess
import sys
from pathlib import Path

import pytest

from bgpd.datastore import Misconfigured, open_datastore
from bgpd.datastore.directory import DirectoryStore
from bgpd.datastore.etcd_options import Endpoint, Tls
from bgpd.datastore.location import etcd_options


def test_directories(tmp_path: Path) -> None:
    for text in (str(tmp_path), f"dir://{tmp_path}"):
        assert open_datastore(text, {}).location == str(tmp_path)
    for text in ("some/where", "./10.0.0.5:2379"):
        assert isinstance(open_datastore(None, {"CAIRN_DATASTORE": text}), DirectoryStore)


def test_a_directory_does_without_grpc(tmp_path: Path) -> None:
    """It takes a sixth of the time that a command needs to begin."""
    program = (
        "import sys\nfrom bgpd.datastore import open_datastore\n"
        f"open_datastore({str(tmp_path)!r}, {{}})\nassert 'grpc' not in sys.modules\n"
        "open_datastore('etcd://a', {})\nassert 'grpc' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_etcd_locations() -> None:
    options = etcd_options("etcd://a:1,b,[::1]:3", {"ETCD_USERNAME": "u", "ETCD_PASSWORD": "p"})
    assert options.endpoints == (Endpoint("a", 1), Endpoint("b", 2379), Endpoint("::1", 3))
    assert (options.tls, options.user, options.password) == (None, "u", "p")
    assert options.location == "etcd://a:1,b:2379,[::1]:3"
    secured = etcd_options("etcd://a", {"ETCD_CA_CERT_FILE": "/ca"})
    assert secured.tls == Tls(Path("/ca"))
    assert etcd_options("https://a:1,https://b:2", {}).tls == Tls()
    assert etcd_options("http://a:1", {"ETCD_CA_CERT_FILE": "/ca"}).tls is None


def test_many_clients_are_spread_over_the_members() -> None:
    stores = [open_datastore("etcd://a:1,b:2,c:3", {}) for _ in range(100)]
    assert {store.health().endpoint for store in stores} == {"a:1", "b:2", "c:3"}
    assert {store.location for store in stores} == {"etcd://a:1,b:2,c:3"}


def test_calicos_variables() -> None:
    for endpoints in ("http://a:2379,http://b:2379", "a:2379,b:2379"):
        assert open_datastore(None, {"ETCD_ENDPOINTS": endpoints}).location == "etcd://a:2379,b:2379"
    both = {"ETCD_ENDPOINTS": "http://a:2379", "CAIRN_DATASTORE": "etcd://c:1"}
    assert open_datastore(None, both).location == "etcd://c:1"
    assert open_datastore("etcd://d:1", both).location == "etcd://d:1"


@pytest.mark.parametrize(
    ("location", "environ", "message"),
    [
        (None, {}, "no datastore is named"),
        ("etcd://", {}, "endpoint"),
        ("consul://a", {}, "no kind of datastore"),
        ("https://a,http://b", {}, "cannot be mixed"),
        ("etcd://u:p@a", {}, "ETCD_USERNAME"),
        ("etcd://a:x", {}, "no endpoint"),
        ("etcd://a/b", {}, "no endpoint"),
        ("u:p@10.0.0.5:2379", {}, "ETCD_USERNAME"),
        ("10.0.0.5:2379", {}, "say etcd://HOST:PORT"),
        ("a:2379,b:2379", {}, "say etcd://HOST:PORT"),
        ("etcd:10.0.0.5", {}, "say etcd://HOST:PORT"),
        (None, {"CAIRN_DATASTORE": "etcd:/10.0.0.5:2379"}, "say etcd://HOST:PORT"),
        ("etcds://a", {"ETCD_CERT_FILE": "/c"}, "ETCD_KEY_FILE"),
        (None, {"DATASTORE_TYPE": "kubernetes", "ETCD_ENDPOINTS": "http://a:1"}, "kubernetes"),
    ],
)
def test_mistakes(location: str | None, environ: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        open_datastore(location, environ)
