"""Passwords: where they are looked for, in which order, and that nothing but `read` ever has one."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bgpd.datastore import Datastore, SecretError, Secrets
from bgpd.datastore.errors import Unavailable
from bgpd.datastore.etcd_store import EtcdStore
from bgpd.datastore.secrets import REREAD, variable_of
from bgpd.plan import SecretRef
from tests.agent.ground import needs_root
from tests.datastore.etcd_server import Etcd

TOR = SecretRef("tor", "pass-word")
VARIABLE = "CAIRN_SECRET_TOR_PASS_WORD"


def secrets(directory: Path | None, environ: Mapping[str, str], store: Datastore | None = None) -> Secrets:
    return Secrets(directory, environ, store)


def put(directory: Path, value: str | bytes) -> None:
    (directory / "tor").mkdir(exist_ok=True)
    (directory / "tor" / "pass-word").write_bytes(value if isinstance(value, bytes) else value.encode())


def test_a_file_comes_before_the_environment(tmp_path: Path) -> None:
    assert variable_of(TOR) == VARIABLE
    found = secrets(tmp_path, {VARIABLE: "of the environment"})
    assert found.read(TOR) == "of the environment"
    put(tmp_path, "of the file\r\n")
    assert found.read(TOR) == "of the file"


@needs_root
def test_a_file_that_is_for_another_user_is_none(tmp_path: Path) -> None:
    """A reflector's unit runs as nobody in particular, and /etc/cairn/secrets is root's."""
    put(tmp_path, "of the agent")
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        assert secrets(tmp_path, {VARIABLE: "of the environment"}).read(TOR) == "of the environment"
        with pytest.raises(SecretError, match=f"file {tmp_path}/tor/pass-word cannot be read: Permission"):
            secrets(tmp_path, {}).read(TOR)
    finally:
        os.seteuid(0)


def test_a_missing_one_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SecretError) as error:
        secrets(tmp_path, {}).read(TOR)
    assert str(error.value) == (
        f"secret tor/pass-word is nowhere: there is no file {tmp_path}/tor/pass-word, {VARIABLE} is not set"
    )
    with pytest.raises(SecretError, match="no directory of secrets is given"):
        secrets(None, {}).read(TOR)


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "has 0 octets"), ("\n", "has 0 octets"), ("ä" * 41, "has 82 octets"), (b"\xff", "is not UTF-8")],
)
def test_a_value_no_kernel_takes_is_refused_and_not_shown(
    tmp_path: Path, value: str | bytes, words: str
) -> None:
    put(tmp_path, value)
    with pytest.raises(SecretError, match=words) as error:
        secrets(tmp_path, {}).read(TOR)
    assert "ä" not in str(error.value)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../../etc", "a\0"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "key").write_text("not for you")
    for secret in (SecretRef(name, "key"), SecretRef("key", name)):
        with pytest.raises(SecretError, match="a name that no file can have"):
            secrets(tmp_path / "secrets", {variable_of(secret): "nor you"}).read(secret)


def test_what_was_read_once_stays_in_force_and_why_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "s3cret")
    found = secrets(tmp_path, {})
    assert found.read_all([TOR, TOR]) == ({TOR: "s3cret"}, {})
    (tmp_path / "tor" / "pass-word").unlink()
    assert found.read(TOR) == "s3cret"
    for value in ("", "", "x" * 81, b"k\xe4se"):
        put(tmp_path, value)
        assert found.read_all([TOR]) == ({TOR: "s3cret"}, {})
    assert not caplog.records[4:]
    for record, reason in zip(
        caplog.records, ("is nowhere", "0 octets", "81 octets", "not UTF-8"), strict=True
    ):
        assert "the password read before stays in force" in record.getMessage()
        assert f"{tmp_path}/tor/pass-word" in record.getMessage()
        assert reason in record.getMessage()
    put(tmp_path, "another")
    assert found.read(TOR) == "another"
    assert "xxx" not in caplog.text


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path / "data")
    server.start()
    yield server
    server.kill()


@pytest.mark.etcd
async def test_an_etcd_key_is_the_last_place(etcd: Etcd, tmp_path: Path) -> None:
    store = EtcdStore(etcd.options())
    found = secrets(tmp_path, {}, store)
    await found.fetch([TOR], 0.0)
    with pytest.raises(SecretError, match="etcd has no key /cairn/secrets/tor/pass-word"):
        found.read(TOR)
    etcd.put("/cairn/secrets/tor/pass-word", "of etcd")
    await found.fetch([TOR], REREAD / 2)
    with pytest.raises(SecretError):
        found.read(TOR)  # asked for again only after a while: a thousand nodes ask
    await found.fetch([TOR], REREAD)
    assert found.read_all([TOR]) == ({TOR: "of etcd"}, {})
    etcd.put("/cairn/secrets/tor/pass-word", "of etcd, changed")
    await found.fetch([TOR], 2 * REREAD)
    assert found.read(TOR) == "of etcd, changed"
    assert not [entry for entry in (await store.list()).entries if "secret" in str(entry)]
    put(tmp_path, "of the file")
    assert found.read(TOR) == "of the file"
    await store.close()


class _Gone:
    """A store that does not answer."""

    shared = True

    async def secret(self, name: str, key: str) -> str | None:
        raise Unavailable(f"etcd at 127.0.0.1:1 does not answer ({name}/{key})")


async def test_an_etcd_that_does_not_answer_is_named(tmp_path: Path) -> None:
    found = secrets(tmp_path, {}, _Gone())  # type: ignore[arg-type]  # all of a store that is asked
    await found.fetch([TOR], 0.0)
    with pytest.raises(SecretError, match="does not answer"):
        found.read(TOR)
