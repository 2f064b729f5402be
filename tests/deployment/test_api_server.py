"""The manifests and a real Kubernetes control plane: it takes them, and makes pods of them.

Not for every day: a control plane has to be built, so it runs only where CAIRN_KUBERNETES names a folder with
kube-apiserver, kube-controller-manager and kubectl (see CONTRIBUTING.md).
No kubelet: what a pod does is tried by tests/deployment/test_containers.py.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.datastore.authority import openssl
from tests.datastore.etcd_server import Etcd
from tests.docs.commands import TOP, commands
from tests.ports import free_port

PROGRAMS = Path(os.environ.get("CAIRN_KUBERNETES", "/nowhere")).resolve()
NODES = ("one", "two", "three")
ADMINISTRATOR = "administrator"

pytestmark = [
    pytest.mark.skipif("CAIRN_KUBERNETES" not in os.environ, reason="CAIRN_KUBERNETES is not set"),
    pytest.mark.peer("etcd"),
    pytest.mark.timeout(300),
]


class ControlPlane:
    """An API server on a free port and its controllers; `kubectl` is one who may do everything."""

    def __init__(self, folder: Path) -> None:
        self._etcd = Etcd(folder / "etcd")
        self._folder = folder
        self._port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._configuration = folder / "kubeconfig"

    def start(self) -> None:
        self._etcd.start()
        key, tokens = self._folder / "accounts.key", self._folder / "tokens.csv"
        openssl("genrsa", "-out", key, "2048")
        tokens.write_text(f"secret,{ADMINISTRATOR},1,system:masters\n")
        self._configuration.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": ADMINISTRATOR}}],
                    "users": [{"name": ADMINISTRATOR, "user": {"token": "secret"}}],
                    "clusters": [
                        {
                            "name": "here",
                            "cluster": {
                                "server": f"https://127.0.0.1:{self._port}",
                                "certificate-authority": str(self._folder / "certificates/apiserver.crt"),
                            },
                        }
                    ],
                }
            )
        )
        self._serve(
            "kube-apiserver",
            f"--etcd-servers=http://{self._etcd.endpoint.host}:{self._etcd.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self._port}",
            f"--cert-dir={self._folder / 'certificates'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://127.0.0.1",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=Node,RBAC",
        )
        self.until(
            "the API server is ready", lambda: self.kubectl("get", "--raw=/readyz", check=False) == "ok"
        )
        self._serve(
            "kube-controller-manager",
            f"--kubeconfig={self._configuration}",
            f"--service-account-private-key-file={key}",
            "--secure-port=0",
            "--port=0",
            "--leader-elect=false",
        )

    def _serve(self, program: str, *words: str) -> None:
        with (self._folder / f"{program}.log").open("wb") as log:
            begun = subprocess.Popen([PROGRAMS / program, *words], stdout=log, stderr=log)
        self._processes.append(begun)

    def kubectl(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [PROGRAMS / "kubectl", *words], cwd=TOP, capture_output=True, text=True, check=False,
            env={**os.environ, "KUBECONFIG": str(self._configuration), "HOME": str(self._folder)},
        )  # fmt: skip
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def declared(self, kind: str, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *words, "-o", "json"))["items"]
        return found

    def until(self, what: str, found: Any) -> None:
        deadline = time.monotonic() + 90
        while not found():
            assert time.monotonic() < deadline, what
            assert all(process.poll() is None for process in self._processes), "one has ended"
            time.sleep(0.2)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._etcd.kill()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


def test_the_manifests_are_taken_and_become_pods(plane: ControlPlane, tmp_path: Path) -> None:
    for name in NODES:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        (tmp_path / "node.yaml").write_text(yaml.safe_dump(node))
        plane.kubectl("apply", "-f", str(tmp_path / "node.yaml"))
    plane.until(
        "nodes without a kubelet are marked",
        lambda: all("taints" in n["spec"] for n in plane.declared("node")),
    )

    [words] = commands("test_the_manifests_are_taken_and_become_pods")
    assert words[0] == "kubectl"
    created = plane.kubectl(*words[1:])
    assert created.splitlines()
    assert all(line.endswith(" created") for line in created.splitlines())
    again = plane.kubectl(*words[1:])
    assert all(line.endswith(" unchanged") for line in again.splitlines()), again

    def pods(component: str) -> list[dict[str, Any]]:
        return plane.declared("pod", "-n", "cairn", "-l", f"app.kubernetes.io/component={component}")

    plane.until(
        "a pod for each node, also for those that are not ready", lambda: len(pods("agent")) == len(NODES)
    )
    plane.until("a reflector", lambda: len(pods("reflector")) == 1)
    meant = {
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ][0]["matchFields"][0]["values"][0]
        for pod in pods("agent")
    }
    assert meant == set(NODES)
    for pod in (*pods("agent"), *pods("reflector")):
        assert pod["spec"]["priority"] >= 2_000_000_000
        assert not any("kube-api-access" in volume["name"] for volume in pod["spec"]["volumes"]), "no token"
        [account] = {pod["spec"]["serviceAccountName"]}
        told = plane.kubectl(
            "auth", "can-i", "--list", "-n", "cairn", f"--as=system:serviceaccount:cairn:{account}"
        )
        assert "pods" not in told
        assert "secrets" not in told
    plane.kubectl("delete", *words[2:], "--wait=false")
