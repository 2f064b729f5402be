"""validate, apply, diff, get, delete, plan, explain, render: as processes, on a real directory store."""

from pathlib import Path

import pytest
import yaml

from tests.ctl.cairn import cairn

CLUSTER = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node-1}
spec: {bgp: {ipv4Address: 10.0.0.1/24}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: node-2}
spec: {bgp: {ipv4Address: 10.0.0.2/24}}
---
apiVersion: projectcalico.org/v3
kind: BlockAffinity
metadata: {name: node-1-10-77-1-0-26}
spec: {node: node-1, cidr: 10.77.1.0/26, state: confirmed}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: lab}
spec: {cidr: 10.77.0.0/16, ipipMode: Never, vxlanMode: Never}
"""
PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.254, asNumber: %d}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    place.mkdir()
    return place


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_apply_creates_then_keeps_then_changes(store: Path, tmp_path: Path) -> None:
    cluster = write(tmp_path / "cluster.yaml", CLUSTER)
    first = cairn("apply", "-f", cluster, "--datastore", store)
    assert first.code == 0, first.err
    assert "+ Node node-1" in first.out
    assert "+ announces 10.77.1.0/26" in first.out
    assert "applied: 4 created" in first.out

    again = cairn("apply", "-f", cluster, "--datastore", store)
    assert again.code == 0, again.err
    assert "applied" not in again.out
    assert "no session and no route changes on any node" in again.out

    applied = cairn("apply", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    assert applied.code == 0, applied.err
    changed = cairn("apply", "-f", "-", "--datastore", store, "-o", "json", stdin=PEER % 65002)
    assert changed.code == 0, changed.err
    assert changed.json["resources"][0]["action"] == "change"
    assert changed.json["resources"][0]["fields"] == ["spec.asNumber: 65001 → 65002"]
    assert [node["sessions"][0]["change"] for node in changed.json["nodes"]] == ["bounces", "bounces"]
    assert changed.json["sessionsDropped"] == 2
    assert cairn("get", "bgpp", "tor", "-o", "json", "--datastore", store).json["spec"]["asNumber"] == 65002


def test_of_many_changes_the_first_are_named_and_with_wide_all(store: Path) -> None:
    node = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: n{0}}}\n"
    node += "spec: {{bgp: {{ipv4Address: 10.0.0.{0}/24}}}}\n"
    mesh = "---\n".join(node.format(number) for number in range(1, 31))
    for words, lines, more in (((), 20, 30), (("-o", "wide"), 29, 0)):
        told = cairn("diff", "-f", "-", "--datastore", store, *words, stdin=mesh)
        assert told.code == 1, told.err
        assert told.out.count("+ session to n") == 30 * lines
        assert told.out.count("+ session to 9 more, which `-o wide` names") == more


def test_values_are_told_as_one_would_write_them_in_a_resource(store: Path) -> None:
    peer = PEER % 65001
    assert cairn("apply", "-f", "-", "--datastore", store, stdin=peer).code == 0
    password = "password: {secretKeyRef: {name: s, key: k}}"
    other = peer.replace("asNumber", f"keepOriginalNextHop: true, maxRestartTime: 5m0s, {password}, asNumber")
    edit = cairn("diff", "-f", "-", "--datastore", store, "-o", "json", stdin=other)
    assert sorted(edit.json["resources"][0]["fields"]) == [
        "spec.keepOriginalNextHop: unset → true",
        "spec.maxRestartTime: unset → 5m0s",
        'spec.password: unset → {"secretKeyRef": {"name": "s", "key": "k"}}',
    ]


def test_identity_is_given_once_and_kept(store: Path) -> None:
    cairn("apply", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    created = cairn("get", "bgppeer", "tor", "-o", "json", "--datastore", store).json["metadata"]
    cairn("apply", "-f", "-", "--datastore", store, stdin=PEER % 65002)
    changed = cairn("get", "bgppeer", "tor", "-o", "json", "--datastore", store).json["metadata"]
    assert len(created["uid"]) == 36
    assert created["creationTimestamp"].endswith("Z")
    assert (changed["uid"], changed["creationTimestamp"]) == (created["uid"], created["creationTimestamp"])


def test_dry_run_and_diff_write_nothing(store: Path) -> None:
    dry = cairn("apply", "--dry-run", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    assert dry.code == 0, dry.err
    assert "+ BGPPeer tor" in dry.out
    diff = cairn("diff", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    assert (diff.code, "+ BGPPeer tor" in diff.out) == (1, True)
    assert cairn("get", "bgpp", "-o", "json", "--datastore", store).json["items"] == []
    cairn("apply", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    same = cairn("diff", "-q", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    assert (same.code, same.out) == (0, "")


def test_what_get_prints_apply_takes_again(store: Path, tmp_path: Path) -> None:
    names = "".join(f"---\n{PEER % 65001}".replace("tor", name) for name in ("1e3", '"08"', "0o17", "1.10"))
    cairn("apply", "-f", write(tmp_path / "c.yaml", CLUSTER + names), "--datastore", store)
    copy = tmp_path / "copy"
    copy.mkdir()
    for form in ("yaml", "json"):
        printed = cairn("get", "all", "-o", form, "--datastore", store)
        applied = cairn("apply", "-f", "-", "--datastore", copy, stdin=printed.out)
        assert applied.code == 0, applied.err
    before, after = (
        cairn("get", "all", "-o", "json", "--datastore", place).json["items"] for place in (store, copy)
    )
    assert [(item["kind"], item["metadata"]["name"], item["spec"]) for item in before] == [
        (item["kind"], item["metadata"]["name"], item["spec"]) for item in after
    ]
    peers = [item["metadata"]["name"] for item in after if item["kind"] == "BGPPeer"]
    assert peers == ["08", "0o17", "1.10", "1e3"]


@pytest.mark.parametrize(
    "kind", ["BGPPeer tor", "BlockAffinity node-1-10-77-1-0-26", "CairnConfiguration default"]
)
def test_a_file_replaces_and_deletes_only_the_version_it_is_of(
    kind: str, store: Path, tmp_path: Path
) -> None:
    """`resourceVersion`, as for calicoctl; what is the same is no conflict, so to repeat an apply is none."""
    first, second, third = {
        "BGPPeer tor": [PEER % number for number in (65001, 65002, 65003)],
        "BlockAffinity node-1-10-77-1-0-26": [
            CLUSTER.split("---\n")[2].replace("confirmed", state)
            for state in ("confirmed", "pending", "pendingDeletion")
        ],
        "CairnConfiguration default": [
            "apiVersion: cairn.dev/v1\nkind: CairnConfiguration\nmetadata: {name: default}\n"
            f"spec: {{maxPrefixes: {number}}}\n"
            for number in (1000, 2000, 3000)
        ],
    }[kind]
    at = ("--datastore", store)

    def version() -> str:
        return str(cairn("get", *kind.split(), "-o", "json", *at).json["metadata"]["resourceVersion"])

    def of(text: str, version: str) -> Path:
        document = yaml.safe_load(text)
        document["metadata"]["resourceVersion"] = version
        return write(tmp_path / "of.yaml", yaml.safe_dump(document))

    assert cairn("apply", "-f", of(first, "12"), *at).code == 0  # nothing is there that it could undo
    read = version()
    assert cairn("apply", "-f", of(second, read), *at).code == 0
    assert version() != read
    assert cairn("apply", "-f", of(second, read), *at).code == 0
    for words in (("apply",), ("apply", "--dry-run"), ("delete",)):
        refused = cairn(*words, "-f", of(third, read), *at)
        assert (refused.code, refused.out) == (1, ""), refused
        assert f" was changed: it has resourceVersion {version()}, the file that of {read}" in refused.err
        assert "take resourceVersion out of the file" in refused.err
    assert r"the file that of \nok;" in cairn("apply", "-f", of(third, "\nok"), *at).err  # on one line
    diff = cairn("diff", "-f", of(third, read), *at)
    assert (diff.code, "`cairn apply` would refuse this" in diff.err) == (1, True)
    assert diff.out.startswith("~ ")
    stored = "".join(file.read_text() for file in store.rglob("*.yaml"))
    assert "resourceVersion" not in stored
    assert cairn("apply", "-f", write(tmp_path / "any.yaml", third), *at).code == 0
    assert cairn("delete", "-f", of(third, version()), *at).code == 0


def test_what_is_exported_belongs_to_no_datastore(store: Path) -> None:
    cairn("apply", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    exported = cairn("get", "all", "--export", "-o", "json", "--datastore", store).json["items"]
    assert [item["metadata"] for item in exported] == [{"name": "tor"}]


def test_what_only_services_write_is_not_put_back(store: Path, tmp_path: Path) -> None:
    """A lease that no agent holds would have no end: its node would be alive for ever."""
    write(
        store / "lease.yaml",
        "apiVersion: cairn.dev/v1\nkind: NodeLease\nmetadata: {name: node-2}\nspec: {}\n",
    )
    cairn("apply", "-f", write(tmp_path / "c.yaml", CLUSTER), "--datastore", store)
    copy = write(tmp_path / "copy.yaml", cairn("get", "all", "-o", "yaml", "--datastore", store).out)
    assert "NodeLease" in copy.read_text()
    other = tmp_path / "other"
    applied = cairn("apply", "-f", copy, "--datastore", other)
    assert (applied.code, "left out, since only services write it: 1 NodeLease" in applied.err) == (0, True)
    assert "NodeLease" not in cairn("get", "all", "--datastore", other).out
    assert cairn("diff", "-q", "-f", copy, "--datastore", other).code == 0


@pytest.mark.parametrize("verb", ["apply", "diff", "delete"])
def test_nothing_is_no_change_that_was_meant(verb: str, store: Path, tmp_path: Path) -> None:
    """`generate | cairn apply -f -` when `generate` fails; `-f "$UNSET"`, which is not the directory here."""
    done = cairn(verb, "-f", "-", "--datastore", store, stdin="# nothing\n")
    assert (done.code, "to do: give a file that holds" in done.err) == (2, True), done
    done = cairn(verb, "-f", "", "--datastore", store)
    assert (done.code, "it is empty; give a file" in done.err) == (2, True), done


def test_get_shows_calicoctls_columns(store: Path, tmp_path: Path) -> None:
    cairn("apply", "-f", write(tmp_path / "c.yaml", CLUSTER), "--datastore", store)
    cairn("apply", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    assert cairn("get", "bgppeers", environment={"CAIRN_DATASTORE": str(store)}).out.splitlines() == [
        "NAME   PEERIP       NODE   ASN",
        "tor    10.0.0.254          65001",
    ]
    assert [line.split()[0] for line in cairn("get", "no", "--datastore", store).out.splitlines()] == [
        "NAME",
        "node-1",
        "node-2",
    ]
    missing = cairn("get", "node", "node-9", "--datastore", store)
    assert (missing.code, "no Node called node-9" in missing.err) == (1, True)


def test_delete_is_all_or_nothing(store: Path, tmp_path: Path) -> None:
    cluster = write(tmp_path / "c.yaml", CLUSTER)
    cairn("apply", "-f", cluster, "--datastore", store)
    refused = cairn("delete", "node", "node-1", "node-9", "--datastore", store)
    assert (refused.code, "nothing was deleted" in refused.err) == (1, True)
    assert cairn("get", "node", "node-1", "--datastore", store).code == 0
    told = cairn("delete", "node", "node-1", "--dry-run", "-o", "json", "--datastore", store).json
    assert [(each["name"], each["action"]) for each in told["resources"]] == [("node-1", "delete")]
    assert told["sessionsDropped"] == 2
    affinity = cairn("delete", "affinity", "node-1/10.77.1.0/26", "--datastore", store)
    assert affinity.code == 0, affinity.err
    assert "- withdraws 10.77.1.0/26" in affinity.out
    some = cairn("delete", "--skip-not-exists", "node", "node-1", "node-9", "--datastore", store)
    assert some.code == 0, some.err
    rest = cairn("delete", "--skip-not-exists", "-f", cluster, "--datastore", store)
    assert rest.code == 0, rest.err
    assert cairn("get", "all", "-o", "json", "--datastore", store).json["items"] == []
    assert cairn("delete", "--datastore", store).code == 2
    assert cairn("delete", "node", "x", "-f", cluster, "--datastore", store).code == 2


def test_every_fault_of_every_file_is_told_and_nothing_is_done(store: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    write(files / "good.yaml", PEER % 65001)
    bad = (PEER % 65001).replace("asNumber", "asNumbr")
    write(files / "bad.yaml", f"{bad}---\n{bad.replace('10.0.0.254', '10.0.0.256')}")
    write(files / "worse.yml", "kind: BGPPeeer\n")
    for verb in ("validate", "apply", "diff"):
        words = [verb, "-f", str(files)] + ([] if verb == "validate" else ["--datastore", str(store)])
        done = cairn(*words)
        assert done.code == 4, (verb, done)
        assert f"{files / 'bad.yaml'}:4" in done.err
        assert done.err.startswith(f"cairn: {len(done.err.splitlines()) - 1} faults, so nothing was done")
        assert "did you mean asNumber?" in done.err
        assert f"{files / 'worse.yml'}:1" in done.err
    assert cairn("get", "all", "-o", "json", "--datastore", store).json["items"] == []


def test_the_same_resource_in_two_files_is_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.yaml", PEER % 65001), write(tmp_path / "2.yaml", PEER % 65002)
    done = cairn("validate", "-f", one, "-f", two)
    assert (done.code, f"also in {one}" in done.err) == (4, True)


@pytest.mark.parametrize(
    "words", [("plan", "node-1"), ("explain", "10.77.1.5"), ("render", "bird", "--node", "node-1")]
)
def test_nothing_is_said_of_what_a_pool_that_cannot_be_read_may_hold_back(
    store: Path, words: tuple[str, ...]
) -> None:
    write(store / "all.yaml", CLUSTER.replace("vxlanMode: Never", "vxlanMode: Later"))
    told = cairn(*words, "--datastore", store)
    assert (told.code, told.out) == (4, "")
    assert "'Later'" in told.err
    assert "nothing is done before it is repaired" in told.err


def test_files_that_cannot_be_read_are_wrong_usage(tmp_path: Path) -> None:
    assert cairn("validate").code == 2
    assert cairn("validate", "-f", tmp_path / "none.yaml").code == 2
    (tmp_path / "empty").mkdir()
    assert cairn("validate", "-f", tmp_path / "empty").code == 2
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"kind: \xe9\n")
    assert cairn("validate", "-f", latin).code == 4


def test_the_first_apply_makes_the_directory(tmp_path: Path) -> None:
    place = tmp_path / "not" / "yet"
    seen = cairn("diff", "-f", "-", "--datastore", place, stdin=PEER % 65001)
    assert (seen.code, "does not exist yet; applying makes it" in seen.err, place.exists()) == (
        1,
        True,
        False,
    )
    assert "`cairn apply` there makes it" in cairn("get", "nodes", "--datastore", place).err
    assert cairn("apply", "-f", "-", "--datastore", place, stdin=PEER % 65001).code == 0
    assert cairn("get", "bgpp", "tor", "-o", "json", "--datastore", place).code == 0


def test_a_store_that_is_not_there_is_exit_3() -> None:
    for location in ("etcd://127.0.0.1:1", "/no/such/directory"):
        done = cairn("get", "nodes", "--datastore", location)
        assert done.code == 3, done
        assert location.removeprefix("etcd://") in done.err


def test_plan_gives_peerings_and_routes_with_reasons(store: Path, tmp_path: Path) -> None:
    cairn("apply", "-f", write(tmp_path / "c.yaml", CLUSTER), "--datastore", store)
    plan = cairn("plan", "node-1", "-o", "json", "--datastore", store).json
    assert [peering["peerAddress"] for peering in plan["peerings"]] == ["10.0.0.2"]
    assert [route["prefix"] for route in plan["originated"]] == ["10.77.1.0/26"]
    assert all(item["reason"] for item in plan["peerings"] + plan["originated"])
    assert plan == yaml.safe_load(cairn("plan", "node-1", "-o", "yaml", "--datastore", store).out)
    table = cairn("plan", "node-1", "--datastore", store).out
    assert "10.0.0.2" in table
    assert "10.77.1.0/26" in table
    unknown = cairn("plan", "node-9", "--datastore", store)
    assert (unknown.code, "node-1, node-2" in unknown.err) == (4, True)


def test_explain_finds_the_origin_of_an_address(store: Path, tmp_path: Path) -> None:
    cairn("apply", "-f", write(tmp_path / "c.yaml", CLUSTER), "--datastore", store)
    found = cairn("explain", "10.77.1.5", "-o", "json", "--datastore", store)
    assert found.code == 0, found.err
    assert {(f["node"], f["prefix"], f["finding"]) for f in found.json["findings"]} >= {
        ("node-1", "10.77.1.0/26", "originates it (block)"),
        ("node-1", "10.77.1.0/26", "announces it to node-2"),
    }
    assert cairn("explain", "10.99.0.0/16", "--datastore", store).code == 1
    assert cairn("explain", "10.99.0.0/99", "--datastore", store).code == 2


def test_a_node_that_is_not_declared_is_told_with_the_nearest(store: Path, tmp_path: Path) -> None:
    many = "---\n".join(
        f"apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: node-{number}}}\nspec: {{}}\n"
        for number in range(500)
    )
    assert cairn("apply", "-f", write(tmp_path / "many.yaml", many), "--datastore", store).code == 0
    for words in (("plan", "nod-77"), ("explain", "10.77.1.5", "--node", "nod-77")):
        done = cairn(*words, "--datastore", store)
        assert (done.code, "no Node is called nod-77" in done.err) == (4, True), done
        assert "node-77" in done.err
        assert len(done.err) < 500, "five hundred names help nobody"


def test_explain_says_of_a_node_what_concerns_it(store: Path, tmp_path: Path) -> None:
    mesh_off = (
        "---\napiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\n"
        "spec: {nodeToNodeMeshEnabled: false}\n"
    )
    write(store / "cluster.yaml", CLUSTER + mesh_off)
    done = cairn("explain", "10.77.1.5", "--node", "node-2", "--datastore", store)
    assert (done.code, done.err) == (1, "nothing about 10.77.1.5/32 concerns node-2\n"), done


def test_one_name_in_two_namespaces_is_two_resources(store: Path, tmp_path: Path) -> None:
    endpoints = "---\n".join(
        "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\n"
        f"metadata: {{name: node--1-k8s-web-eth0, namespace: {namespace}}}\n"
        "spec: {node: node-1, orchestrator: k8s, workload: web, pod: web, endpoint: eth0, "
        f"interfaceName: cali{namespace}, ipNetworks: [10.77.1.{number}/32]}}\n"
        for number, namespace in enumerate(("blue", "green"), 1)
    )
    file = write(tmp_path / "endpoints.yaml", CLUSTER + "---\n" + endpoints)
    applied = cairn("apply", "-f", file, "--datastore", store)
    assert applied.code == 0, applied.err
    for words, found in (((), {"blue", "green"}), (("-n", "green"), {"green"})):
        done = cairn("get", "wep", "node--1-k8s-web-eth0", *words, "-o", "json", "--datastore", store)
        items = done.json.get("items", [done.json])
        assert {item["metadata"]["namespace"] for item in items} == found


def test_a_pod_is_named_and_nothing_of_a_namespace_is_said_of_all(store: Path) -> None:
    endpoint = (
        "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\n"
        "metadata: {name: node--1-k8s-web--1-eth0, namespace: blue}\n"
        "spec: {node: node-1, orchestrator: k8s, pod: web-1, endpoint: eth0, "
        "interfaceName: cali1, ipNetworks: [10.77.1.1/32]}\n"
    )
    applied = cairn("apply", "-f", "-", "--datastore", store, stdin=CLUSTER + "---\n" + endpoint)
    assert applied.code == 0, applied.err
    assert cairn("get", "wep", "--datastore", store).out.splitlines()[1].split()[:2] == ["web-1", "node-1"]
    other = cairn("get", "wep", "-n", "green", "--datastore", store)
    assert (other.code, other.err) == (0, "no WorkloadEndpoint is declared in namespace green\n")
