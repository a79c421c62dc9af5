"""The manifests as kubectl renders them: valid by their schemas, consistent, and accepted by our services."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Final

import kubernetes_validate
import pytest
import yaml
from aiohttp import ClientSession
from click.testing import CliRunner

from aggregator.health import Health
from api.app import build_app
from api.settings.settings import ApiSettings
from deploy.cli.commands.operate import topics_create
from deploy.cli.main import main
from deploy.demo.servers.process import HOST, free_port
from schemas.settings import read
from tests.deploy.kustomize import Resource, build, containers, pod, rendered

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
FOLDERS: Final = {"base": KUBERNETES / "base", "example": KUBERNETES / "overlays/example"}
VERSIONS: Final = ("1.29", "1.37")
"""The oldest and the newest that they are for."""
each_folder = pytest.mark.parametrize("folder", FOLDERS)

SCALED_OBJECT: Final = {
    *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod", "fallback"),
    *("advanced", "triggers"),
}
KAFKA_TRIGGER: Final = {
    *("bootstrapServersFromEnv", "consumerGroupFromEnv", "version", "lagThreshold", "offsetResetPolicy"),
    *("allowIdleConsumers", "excludePersistentLag", "limitToPartitionsWithLag", "scaleToZeroOnInvalidOffset"),
    *("sasl", "tls"),
}


@cache
def made(folder: str) -> list[Resource]:
    return build(FOLDERS[folder])


def of_kind(folder: str, *kinds: str) -> list[Resource]:
    found = [each for each in made(folder) if each["kind"] in kinds]
    assert found, kinds
    return found


def the(folder: str, kind: str, name: str = "authtally-worker") -> Resource:
    (found,) = [each for each in of_kind(folder, kind) if each["metadata"]["name"] == name]
    return found


def with_pods(folder: str) -> list[Resource]:
    return [each for each in made(folder) if pod(each)]


@each_folder
@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid_by_its_schema(folder: str, version: str) -> None:
    for resource in made(folder):
        if not resource["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(resource, version, strict=True)


def test_the_validator_finds_a_misspelt_field() -> None:
    wrong = json.loads(json.dumps(the("base", "StatefulSet")))
    containers(wrong)[0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@each_folder
def test_a_change_of_the_settings_restarts_the_pods(folder: str) -> None:
    # The digest in the ConfigMap's name changes every pod template that refers to it.
    resources = rendered(FOLDERS[folder])
    (name,) = [each["metadata"]["name"] for each in resources if each["kind"] == "ConfigMap"]
    assert re.fullmatch(r"authtally-[a-z0-9]{10}", name)
    for resource in (each for each in resources if pod(each)):
        (container,) = containers(resource)
        assert container["envFrom"] == [{"configMapRef": {"name": name}}]


@each_folder
def test_every_pod_is_restricted(folder: str) -> None:
    for resource in with_pods(folder):
        spec = pod(resource)["spec"]  # type: ignore[index]
        assert spec["serviceAccountName"] == "authtally"
        assert spec["automountServiceAccountToken"] is False
        context = spec["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 65532)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@each_folder
def test_pods_find_what_they_name(folder: str) -> None:
    names = {(each["kind"], each["metadata"]["name"]) for each in made(folder)}
    for resource in with_pods(folder):
        spec = pod(resource)["spec"]  # type: ignore[index]
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert ("ServiceAccount", spec["serviceAccountName"]) in names
        for volume in spec["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in names
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            for source in container["envFrom"]:
                assert ("ConfigMap", source["configMapRef"]["name"]) in names
            ports = {port["name"] for port in container.get("ports", ())}
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert name not in container or container[name]["httpGet"]["port"] in ports


@each_folder
def test_selectors_select_pods_and_ports_have_names(folder: str) -> None:
    pods = [pod(each) for each in with_pods(folder)]
    labels = [each["metadata"]["labels"] for each in pods if each]
    ports = {port["name"] for each in with_pods(folder) for one in containers(each) for port in one.get("ports", ())}
    selectors = [each["spec"]["selector"] for each in of_kind(folder, "Service")]
    selectors += [
        each["spec"]["selector"]["matchLabels"]
        for each in of_kind(folder, "Deployment", "StatefulSet", "PodDisruptionBudget")
    ]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(folder, "NetworkPolicy")]
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector
    for service in of_kind(folder, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for policy in of_kind(folder, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            assert {port["port"] for port in rule["ports"]} <= ports
    stateful = the(folder, "StatefulSet")
    assert stateful["spec"]["serviceName"] == the(folder, "Service")["metadata"]["name"]


@each_folder
def test_who_scales_a_service_is_alone_in_it(folder: str) -> None:
    targets = [each["spec"]["scaleTargetRef"] for each in of_kind(folder, "ScaledObject", "HorizontalPodAutoscaler")]
    for target in targets:
        resource = the(folder, target["kind"], target["name"])
        assert resource["apiVersion"] == target["apiVersion"]
        assert "replicas" not in resource["spec"]
    assert len(targets) == len(of_kind(folder, "Deployment", "StatefulSet"))


@each_folder
def test_keda_reads_the_group_of_the_worker(folder: str) -> None:
    spec = the(folder, "ScaledObject")["spec"]
    assert set(spec) <= SCALED_OBJECT
    (trigger,) = spec["triggers"]
    metadata = trigger["metadata"]
    assert set(metadata) <= KAFKA_TRIGGER
    # Kubernetes refuses anything but strings.
    assert all(isinstance(value, str) for value in metadata.values())
    (container,) = containers(the(folder, "StatefulSet"))
    assert spec["scaleTargetRef"]["envSourceContainerName"] == container["name"]
    settings = the(folder, "ConfigMap", "authtally")["data"]
    assert metadata["bootstrapServersFromEnv"] in settings
    assert metadata["consumerGroupFromEnv"] == "AUTHTALLY_KAFKA_GROUP"
    assert settings["AUTHTALLY_KAFKA_GROUP"]
    if reference := trigger.get("authenticationRef"):
        keys = {
            each["key"] for each in the(folder, "TriggerAuthentication", reference["name"])["spec"]["secretTargetRef"]
        }
        assert keys <= documented_secrets()


def test_an_overlay_changes_only_how_keda_signs_in() -> None:
    (base,), (example,) = (the(folder, "ScaledObject")["spec"]["triggers"] for folder in FOLDERS)
    assert base["metadata"].items() <= example["metadata"].items()
    settings = the("example", "ConfigMap", "authtally")["data"]
    assert example["metadata"]["sasl"] == settings["AUTHTALLY_KAFKA_SASL_MECHANISM"].lower().replace("-", "_").replace(
        "scram_sha_", "scram_sha"
    )


@each_folder
def test_there_are_never_more_workers_than_partitions(folder: str) -> None:
    (partitions,) = [each.default for each in topics_create.params if each.name == "partitions"]
    note = (FOLDERS["example"] / "kustomization.yaml").read_text()
    assert f"--partitions {partitions} " in note
    assert the(folder, "ScaledObject")["spec"]["maxReplicaCount"] <= int(str(partitions))


def documented_secrets() -> set[str]:
    """The keys of the Secret, as the example lists them."""
    note = (FOLDERS["example"] / "kustomization.yaml").read_text()
    (listed,) = re.findall(r"\(keys below\).*?:\n((?:#       .*\n)+)", note)
    return set(listed.replace("#", "").split())


@each_folder
def test_secrets_are_referred_to_and_never_written_down(folder: str) -> None:
    text = yaml.safe_dump_all(made(folder))
    used = set()
    assert not [each for each in made(folder) if each["kind"] == "Secret"]
    for resource in with_pods(folder):
        spec = pod(resource)["spec"]  # type: ignore[index]
        for volume in spec["volumes"]:
            used |= {item["key"] for item in volume.get("secret", {}).get("items", ())}
        for variable in (each for container in spec["containers"] for each in container["env"]):
            if re.search(r"_(KEY|URL|PASSWORD|SECRET|USERNAME)$", variable["name"]):
                used.add(variable["valueFrom"]["secretKeyRef"]["key"])
    assert used <= documented_secrets()
    assert "://" not in text.replace("kustomize.config.k8s.io", "")


def environment(folder: str, resource: Resource, secrets: Path) -> dict[str, str]:
    """A container's variables, with something plausible in the place of each secret."""
    plausible = {
        "user-hash-key": "a key of more than sixteen characters",
        "kafka-username": "worker",
        "kafka-password": "a password",
    }
    scheme = "rediss" if folder == "example" else "redis"
    found: dict[str, str] = dict(the(folder, "ConfigMap", "authtally")["data"])
    for variable in containers(resource)[0]["env"]:
        source = variable.get("valueFrom", {})
        key = source.get("secretKeyRef", {}).get("key", "")
        found[variable["name"]] = (
            variable.get("value")
            or plausible.get(key)
            or ("authtally-worker-0" if "fieldRef" in source else f"{scheme}://user:password@redis:6379/0")
        )
    mounts = {each["mountPath"] for each in containers(resource)[0]["volumeMounts"]}
    for name, value in found.items():
        if value.startswith("/run/secrets/authtally/") and "/run/secrets/authtally" in mounts:
            found[name] = str(secrets / Path(value).name)
    return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mounted files."""
    import certifi

    folder = tmp_path_factory.mktemp("secrets")
    (folder / "tokens.json").write_text(
        json.dumps([{"sha256": "0" * 64, "subject": "dashboard", "scopes": ["stats:read"]}])
    )
    (folder / "ca.crt").write_text(Path(certifi.where()).read_text())
    return folder


@each_folder
@pytest.mark.parametrize(("kind", "name"), [("StatefulSet", "authtally-worker"), ("Deployment", "authtally-api")])
def test_the_services_take_their_settings(
    folder: str, kind: str, name: str, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resource = the(folder, kind, name)
    (container,) = containers(resource)
    shown = CliRunner().invoke(main, [*container["args"], "--check"], env=environment(folder, resource, secrets))
    assert shown.exit_code == 0, shown.output


@each_folder
def test_the_snapshot_is_a_command_that_exists(folder: str) -> None:
    (container,) = containers(the(folder, "CronJob", "authtally-snapshot"))
    shown = CliRunner().invoke(main, [*container["args"], "--help"])
    assert shown.exit_code == 0, shown.output
    assert container["args"][-1] in {mount["mountPath"] for mount in container["volumeMounts"]}


def probed(kind: str, name: str) -> set[str]:
    (container,) = containers(the("base", kind, name))
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    return {container[probe]["httpGet"]["path"] for probe in probes}


async def test_probes_ask_what_the_worker_answers() -> None:
    port = free_port()
    health = Health(HOST, port, dict)
    await health.start()
    try:
        async with ClientSession() as session:
            for path in probed("StatefulSet", "authtally-worker"):
                async with session.get(f"http://{HOST}:{port}{path}") as answer:
                    assert answer.status in (200, 503), path
    finally:
        await health.stop()


def test_probes_ask_what_the_api_answers() -> None:
    app = build_app(read(ApiSettings, auth="none"))
    routes = {route.resource.canonical for route in app.router.routes() if route.resource}
    assert probed("Deployment", "authtally-api") <= routes


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> list[Resource]:
    """The base with the component of monitors, as an overlay adds it."""
    folder = tmp_path_factory.mktemp("overlay")
    base, component = (
        os.path.relpath(path, folder) for path in (FOLDERS["base"], KUBERNETES / "components/monitoring")
    )
    (folder / "kustomization.yaml").write_text(json.dumps({"resources": [base], "components": [component]}))
    return build(folder)


@pytest.mark.parametrize(
    ("kind", "endpoints", "jobs"),
    [
        ("PodMonitor", "podMetricsEndpoints", {"authtally-worker": "/metrics"}),
        ("ServiceMonitor", "endpoints", {"authtally-api": "/metrics", "authtally-statistics": "/v1/metrics"}),
    ],
)
def test_monitors_select_what_is_there(
    monitored: list[Resource], kind: str, endpoints: str, jobs: dict[str, str]
) -> None:
    (monitor,) = [each for each in monitored if each["kind"] == kind]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    if kind == "PodMonitor":
        templates = [template for each in monitored if (template := pod(each))]
        labelled = [(each["metadata"], _port_names(each["spec"]["containers"][0])) for each in templates]
    else:
        services = [each for each in monitored if each["kind"] == "Service"]
        labelled = [(each["metadata"], _port_names(each["spec"])) for each in services]
    (ports,) = [ports for metadata, ports in labelled if wanted.items() <= metadata.get("labels", {}).items()]
    found = {}
    for endpoint in monitor["spec"][endpoints]:
        assert endpoint["port"] in ports
        (relabeling,) = endpoint["relabelings"]
        assert relabeling["targetLabel"] == "job"
        found[relabeling["replacement"]] = endpoint["path"]
    assert found == jobs
    prometheus = yaml.safe_load((KUBERNETES.parent / "observability/prometheus.yaml").read_text())
    assert set(jobs) <= {each["job_name"] for each in prometheus["scrape_configs"]}


def _port_names(holder: Resource) -> set[str]:
    return {port["name"] for port in holder.get("ports", ())}
