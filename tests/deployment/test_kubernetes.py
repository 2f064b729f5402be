"""The manifests: every field known, every reference met, every configuration loaded; no API server."""

import shutil
import subprocess
from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

import agent.config
import reflector.config
from ctl.main import COMMANDS

FOLDER = Path(__file__).resolve().parents[2] / "configs/kubernetes"
WATCHDOG = 30  # seconds, of the units
FILES = ("namespace.yaml", "configuration.yaml", "agent.yaml", "reflector.yaml")


class Part(BaseModel):
    """A part of the Kubernetes API as far as it is used here; a field that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Metadata(Part):
    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = {}


class Reference(Part):
    name: str
    key: str


class FieldReference(Part):
    field_path: Literal["spec.nodeName"]


class ValueFrom(Part):
    field_ref: FieldReference | None = None
    config_map_key_ref: Reference | None = None


class Variable(Part):
    name: str
    value_from: ValueFrom


class Capabilities(Part):
    drop: list[str]
    add: list[str]


class Seccomp(Part):
    type: Literal["RuntimeDefault"]


class Security(Part):
    run_as_user: int
    allow_privilege_escalation: bool
    read_only_root_filesystem: bool
    capabilities: Capabilities
    seccomp_profile: Seccomp


class HttpGet(Part):
    host: str
    port: int
    path: str


class Probe(Part):
    http_get: HttpGet
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    failure_threshold: int = 3


class Resources(Part):
    requests: dict[Literal["cpu", "memory"], str]
    limits: dict[Literal["cpu", "memory"], str]


class Mount(Part):
    name: str
    mount_path: str
    read_only: bool = False


class Port(Part):
    name: str
    container_port: int
    host_port: int
    protocol: Literal["TCP"]


class Command(Part):
    command: list[str]


class Hook(Part):
    exec: Command


class Lifecycle(Part):
    pre_stop: Hook


class Container(Part):
    name: str
    image: str
    args: list[str]
    env: list[Variable] = []
    security_context: Security
    liveness_probe: Probe
    readiness_probe: Probe
    lifecycle: Lifecycle | None = None
    resources: Resources
    ports: list[Port] = []
    volume_mounts: list[Mount]


class Item(Part):
    key: str
    path: str


class ConfigMapVolume(Part):
    name: str
    items: list[Item] = []


class SecretVolume(Part):
    secret_name: str
    optional: bool
    default_mode: int


class HostPath(Part):
    path: str
    type: Literal["DirectoryOrCreate"]


class EmptyDir(Part):
    medium: Literal["Memory"]
    size_limit: str


class Volume(Part):
    name: str
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    host_path: HostPath | None = None
    empty_dir: EmptyDir | None = None


class Toleration(Part):
    key: str | None = None
    operator: Literal["Exists"]
    effect: Literal["NoSchedule"] | None = None


class Pod(Part):
    service_account_name: str
    automount_service_account_token: bool
    host_network: bool
    dns_policy: Literal["ClusterFirstWithHostNet"]
    priority_class_name: Literal["system-node-critical", "system-cluster-critical"]
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration]
    termination_grace_period_seconds: int
    containers: list[Container]
    volumes: list[Volume]


class Template(Part):
    metadata: Metadata
    spec: Pod


class Labels(Part):
    match_labels: dict[str, str]


class Rolling(Part):
    max_unavailable: int


class Strategy(Part):
    type: Literal["RollingUpdate", "Recreate"]
    rolling_update: Rolling | None = None


class WorkloadSpec(Part):
    selector: Labels
    template: Template
    replicas: int | None = None
    update_strategy: Strategy | None = None
    strategy: Strategy | None = None


class Manifest(Part):
    api_version: Literal["v1", "apps/v1"]
    kind: Literal["Namespace", "ServiceAccount", "ConfigMap", "DaemonSet", "Deployment"]
    metadata: Metadata
    data: dict[str, str] = {}
    spec: WorkloadSpec | None = None
    automount_service_account_token: bool = Field(default=True)


DOCUMENTS = [
    document for name in FILES for document in yaml.safe_load_all((FOLDER / name).read_text()) if document
]
MANIFESTS = [Manifest.model_validate(document) for document in DOCUMENTS]
WORKLOADS = [found for found in MANIFESTS if found.spec is not None]


def named(kind: str) -> dict[str | None, Manifest]:
    return {found.metadata.name: found for found in MANIFESTS if found.kind == kind}


def test_everything_is_listed_and_in_the_namespace() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert set(listed["resources"]) == set(FILES)
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*FILES, "kustomization.yaml"}
    assert {found.metadata.namespace for found in MANIFESTS if found.kind != "Namespace"} == {"cairn"}
    assert "cairn" in named("Namespace")


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda found: found.metadata.name)
def test_references_are_met(workload: Manifest) -> None:
    assert workload.spec is not None
    assert (workload.kind == "DaemonSet") == (workload.spec.update_strategy is not None)
    labels = workload.spec.template.metadata.labels
    assert workload.spec.selector.match_labels.items() <= labels.items()
    pod = workload.spec.template.spec
    account = named("ServiceAccount")[pod.service_account_name]
    assert not account.automount_service_account_token
    volumes = {volume.name: volume for volume in pod.volumes}
    for volume in pod.volumes:
        if volume.config_map is not None:
            data = named("ConfigMap")[volume.config_map.name].data
            assert all(item.key in data for item in volume.config_map.items)
    [container] = pod.containers
    assert {mount.name for mount in container.volume_mounts} == set(volumes)
    for variable in container.env:
        if variable.value_from.config_map_key_ref is not None:
            reference = variable.value_from.config_map_key_ref
            assert reference.key in named("ConfigMap")[reference.name].data
    assert container.args[0] in {row.name for row in COMMANDS}
    assert set(container.security_context.capabilities.add) <= {"NET_ADMIN", "NET_BIND_SERVICE"}


def test_the_configurations_load_and_the_probes_ask_where_the_services_answer(tmp_path: Path) -> None:
    maps = named("ConfigMap")
    path = tmp_path / "agent.yaml"
    path.write_text(maps["cairn"].data["agent.yaml"])
    of_agent = agent.config.load(path)
    path.write_text(maps["cairn-reflector"].data["reflector.yaml"])
    of_reflector = reflector.config.load(path)
    assert of_reflector.datastore == maps["cairn"].data["CAIRN_DATASTORE"]
    for workload, http in (("cairn-agent", of_agent.http), ("cairn-reflector", of_reflector.http)):
        [found] = [each for each in WORKLOADS if each.metadata.name == workload]
        assert found.spec is not None
        assert http is not None
        [container] = found.spec.template.spec.containers
        alive, ready = container.liveness_probe.http_get, container.readiness_probe.http_get
        assert (alive.path, ready.path) == ("/healthz", "/readyz")
        patience = container.liveness_probe.period_seconds * (container.liveness_probe.failure_threshold - 1)
        assert patience >= WATCHDOG  # as long as under systemd
        assert container.liveness_probe.timeout_seconds > 1  # a loop that is busy answers late
        assert {(each.host, each.port) for each in (alive, ready)} == {(str(http.address), http.port)}
    [daemon] = [found.spec for found in WORKLOADS if found.kind == "DaemonSet"]
    assert daemon is not None
    mounts = {mount.mount_path for mount in daemon.template.spec.containers[0].volume_mounts}
    assert str(of_agent.exabgp.run_directory.parent) in mounts


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_it_together() -> None:
    done = subprocess.run(["kubectl", "kustomize", FOLDER], capture_output=True, text=True, check=True)
    made = [document for document in yaml.safe_load_all(done.stdout) if document]
    assert len(made) == len(MANIFESTS)
    images = [
        container["image"]
        for document in made
        if "spec" in document
        for container in document["spec"]["template"]["spec"]["containers"]
    ]
    assert set(images) == {"registry.example/cairn:0.1.0"}
