"""The files in cluster/ say what they must, rely on nothing that this Ray does not have, and a
broken one is caught, by its place.
"""

import json
import re
import shlex
import tomllib

import pytest
import yaml
from ray.scripts import scripts

from tests.cluster.rules import (
    ROOT,
    autoscaler_types,
    launcher_faults,
    manifest_faults,
    most_nodes,
    start_flags,
    study_faults,
)

CLUSTER = ROOT / "cluster"
LAUNCHERS = AWS, LOCAL = ["aws.yaml", "on-premises.yaml"]
MANIFESTS = RAYCLUSTER, JOB, CLAIM = [
    "kuberay-cluster.yaml",
    "kuberay-job.yaml",
    "kuberay-results.yaml",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RAY_FLOOR = next(
    tuple(map(int, re.findall(r"\d+", dep)))
    for dep in PROJECT["dependencies"]
    if dep.startswith("ray[")
)
README = (CLUSTER / "README.md").read_text()
README_COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


def load(name: str) -> dict:
    return yaml.safe_load((CLUSTER / name).read_text())


def faults(name: str, changed: dict) -> list[str]:
    if name in LAUNCHERS:
        return launcher_faults(changed)
    return manifest_faults(changed, load(CLAIM)["metadata"]["name"], RAY_FLOOR)


def change(tree: dict, path: str, value: object) -> dict:
    """A copy in which the value at a path of words is another one; None removes it, a function
    makes it of the old one.
    """
    changed = json.loads(json.dumps(tree))  # what a YAML alias shares is two things in the copy
    *way, last = [int(step) if step.isdecimal() else step for step in path.split()]
    place = changed
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value(place[last]) if callable(value) else value
    return changed


@pytest.mark.parametrize("name", LAUNCHERS + MANIFESTS)
def test_file_says_what_it_must(name):
    assert faults(name, load(name)) == []


def replace(old: str, new: str):
    def of(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return of


LAUNCHER_MUTANTS = {
    "misspelled key": (AWS, "setup_comands", [], "setup_comands"),
    "unknown provider": (AWS, "provider type", "awss", "awss"),
    "misspelled region": (AWS, "provider", {"type": "aws", "regoin": "eu-central-1"}, "provider"),
    "no such head type": (AWS, "head_node_type", "hed", "head_node_type"),
    "head given CPUs": (
        AWS,
        "available_node_types head resources CPU",
        8,
        "available_node_types.head.resources",
    ),
    "minimum above maximum": (AWS, "available_node_types gpu min_workers", 9, "min_workers"),
    "workers that stay": (
        AWS,
        "available_node_types gpu min_workers",
        1,
        "available_node_types.gpu",
    ),
    "workers without GPU": (AWS, "available_node_types gpu resources GPU", None, "gpu.resources"),
    "a port opened": (
        AWS,
        "provider security_group IpPermissions",
        [{"FromPort": 8265}],
        "provider.security_group",
    ),
    "token not copied": (AWS, "file_mounts ~/.ray/auth_token", None, "file_mounts"),
    "no shared volume": (AWS, "setup_commands 1", replace("/shared", "/share"), "setup_commands"),
    "head without token": (
        AWS,
        "head_start_ray_commands 1",
        replace("RAY_AUTH_MODE=token", ""),
        "head_start_ray_commands",
    ),
    "open dashboard": (
        AWS,
        "head_start_ray_commands 1",
        replace("127.0.0.1", "0.0.0.0"),
        "head_start_ray_commands",
    ),
    "misspelled worker_ips": (
        LOCAL,
        "provider",
        {"type": "local", "head_ip": "192.0.2.10", "workers": []},
        "provider",
    ),
    "head that works": (
        LOCAL,
        "head_start_ray_commands 1",
        replace("--num-cpus=0", ""),
        "head_start_ray_commands",
    ),
    "workers without token": (
        LOCAL,
        "worker_start_ray_commands 1",
        replace("=token", "=disabled"),
        "worker_start_ray_commands",
    ),
}
SPEC = "spec rayClusterSpec"
HEAD, WORKERS = f"{SPEC} headGroupSpec", f"{SPEC} workerGroupSpecs 0"
POD = "template spec"
MANIFEST_MUTANTS = {
    "old apiVersion": (JOB, "apiVersion", "ray.io/v1alpha1", "$.apiVersion"),
    "wrong kind": (JOB, "kind", "RayJbo", "$.kind"),
    "misspelled key": (JOB, f"{SPEC} enableInTreeAutoscalling", True, "$.spec.rayClusterSpec"),
    "no token": (JOB, f"{SPEC} authOptions", None, "authOptions"),
    "token off": (JOB, f"{SPEC} authOptions mode", "disabled", "$.spec.rayClusterSpec.authOptions"),
    "token in the file": (
        JOB,
        f"{WORKERS} {POD} containers 0 env",
        [{"name": "RAY_AUTH_TOKEN", "value": "x"}],
        "containers[0]",
    ),
    "head given CPUs": (
        JOB,
        f"{HEAD} rayStartParams num-cpus",
        "4",
        "headGroupSpec.rayStartParams",
    ),
    "dashboard to the world": (
        JOB,
        f"{HEAD} serviceType",
        "LoadBalancer",
        "headGroupSpec.serviceType",
    ),
    "dashboard on every node": (
        RAYCLUSTER,
        "spec headGroupSpec serviceType",
        "NodePort",
        "$.spec.headGroupSpec.serviceType",
    ),
    "workers that stay": (JOB, f"{WORKERS} minReplicas", 1, "workerGroupSpecs[0].minReplicas"),
    "more than the maximum": (JOB, f"{WORKERS} replicas", 9, "workerGroupSpecs[0]: minReplicas"),
    "workers without GPU": (
        JOB,
        f"{WORKERS} {POD} containers 0 resources limits nvidia.com/gpu",
        None,
        "resources.limits",
    ),
    "workers that count wrong": (JOB, f"{WORKERS} rayStartParams num-gpus", "4", "rayStartParams"),
    "no memory volume": (
        JOB,
        f"{WORKERS} {POD} volumes",
        lambda old: old[1:],
        "workerGroupSpecs[0].template.spec: no memory",
    ),
    "memory volume not mounted": (
        JOB,
        f"{HEAD} {POD} containers 0 volumeMounts 0",
        None,
        "headGroupSpec.template.spec: no memory",
    ),
    "memory volume on disk": (
        JOB,
        f"{HEAD} {POD} volumes 0 emptyDir medium",
        None,
        "headGroupSpec.template.spec.volumes[0]",
    ),
    "memory volume too small": (
        JOB,
        f"{WORKERS} {POD} volumes 0 emptyDir sizeLimit",
        "1Gi",
        "/dev/shm of 1Gi",
    ),
    "results elsewhere": (
        JOB,
        f"{WORKERS} {POD} containers 0 volumeMounts 1 mountPath",
        "/results",
        "workerGroupSpecs[0]",
    ),
    "another claim": (
        JOB,
        f"{HEAD} {POD} volumes 1 persistentVolumeClaim claimName",
        "other",
        "headGroupSpec",
    ),
    "relative --out": (
        JOB,
        "spec entrypoint",
        replace("--out /shared/results", "--out results"),
        "$.spec.entrypoint: --out",
    ),
    "no --out": (
        JOB,
        "spec entrypoint",
        replace("--out /shared/results/demo", ""),
        "$.spec.entrypoint: --out",
    ),
    "--out on no volume": (
        JOB,
        "spec entrypoint",
        replace("--out /shared", "--out /tmp"),
        "$.spec.entrypoint: --out",
    ),
    "another script": (
        JOB,
        "spec entrypoint",
        replace("jobs/study.py", "jobs/studies.py"),
        "$.spec.entrypoint: does not run",
    ),
    "no such study": (
        JOB,
        "spec entrypoint",
        replace("demo.yaml", "dmo.yaml"),
        "$.spec.entrypoint",
    ),
    "no such key": (
        JOB,
        "spec entrypoint",
        replace("resources.actors", "resources.actor"),
        "$.spec.entrypoint",
    ),
    "no actors asked for": (
        JOB,
        "spec entrypoint",
        replace("--set resources.actors=4", ""),
        "set resources.actors and training_workers",
    ),
    "no trainers asked for": (
        JOB,
        "spec entrypoint",
        replace("--set resources.training_workers=4", ""),
        "to numbers",
    ),
    "no GPUs asked for": (
        JOB,
        "spec entrypoint",
        replace("--set resources.gpus_per_actor=1", ""),
        "entrypoint: place: cores",
    ),
    "trainers on cores": (
        JOB,
        "spec entrypoint",
        replace("gpus_per_actor=1", "gpus_per_actor=0"),
        "entrypoint: place_training: cores",
    ),
    "actors above maxReplicas": (
        JOB,
        "spec entrypoint",
        replace("actors=4", "actors=9"),
        "9 processes",
    ),
    "trainers above maxReplicas": (
        JOB,
        "spec entrypoint",
        replace("workers=4", "workers=9"),
        "9 processes",
    ),
    "maxReplicas below actors": (JOB, f"{WORKERS} maxReplicas", 3, "there is room for 3"),
    "image of another Ray": (
        JOB,
        f"{HEAD} {POD} containers 0 image",
        replace("2.60", "2.59"),
        "headGroupSpec",
    ),
    "Ray too old": (RAYCLUSTER, "spec rayVersion", "2.55.1", "$.spec.rayVersion"),
    "privileged": (
        JOB,
        f"{WORKERS} {POD} containers 0 securityContext",
        {"privileged": True},
        "securityContext",
    ),
    "as root": (JOB, f"{HEAD} {POD} securityContext runAsUser", 0, "securityContext.runAsUser"),
    "volume of one node": (CLAIM, "spec accessModes", ["ReadWriteOnce"], "$.spec.accessModes"),
}
MUTANTS = [*LAUNCHER_MUTANTS.items(), *MANIFEST_MUTANTS.items()]


@pytest.mark.parametrize(
    ("name", "path", "value", "place"),
    [mutant for _, mutant in MUTANTS],
    ids=[what for what, _ in MUTANTS],
)
def test_a_broken_file_is_caught_by_its_place(name, path, value, place):
    found = faults(name, change(load(name), path, value))
    assert any(place in fault for fault in found), found


def test_the_files_agree():
    job, cluster = load(JOB), load(RAYCLUSTER)
    assert job["spec"]["rayClusterSpec"] == cluster["spec"], (
        "a job's cluster is the one of kuberay-cluster.yaml"
    )
    ray = cluster["spec"]["rayVersion"]
    image = f"advrec:{PROJECT['version']}-ray{ray}"
    for group in [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]:
        assert [container["image"] for container in group["template"]["spec"]["containers"]] == [
            image
        ]
    containerfile = (CLUSTER / "Containerfile").read_text()
    assert f"ARG RAY={ray}\n" in containerfile
    assert f"-t {image} " in containerfile
    assert f"-t {image} " in README
    for name in LAUNCHERS:
        assert f"'ray[default]=={ray}'" in load(name)["setup_commands"][-1]


WAYS = {
    "AWS": load(AWS)["available_node_types"],
    "Kubernetes": autoscaler_types(load(RAYCLUSTER)["spec"]),
}


@pytest.mark.parametrize(("way", "types"), WAYS.items(), ids=WAYS)
def test_the_readme_asks_for_as_many_as_may_come(way, types):
    (section,) = [section for section in README.split("\n## ") if section.startswith(f"{way}\n")]
    (command,) = re.findall(r"-- (python .*)", section)
    assert list(study_faults(command, most_nodes(types))) == []


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize("node", ["head", "worker"])
def test_ray_start_has_the_options_of_the_launcher_files(name, node):
    flags = start_flags(load(name)[f"{node}_start_ray_commands"][-1]).keys()
    assert flags
    assert flags <= options("start")


def options(*command: str) -> set[str]:
    """All options of a subcommand of `ray`."""
    found = scripts.cli
    for word in command:
        found = found.commands[word]
    return {
        name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)
    }


def test_readme_has_four_commands_for_each_of_four_ways():
    ways = README.split("\n## ")[1:]
    with_commands = {
        way.splitlines()[0]: re.findall(r"^# (\d)", way, re.MULTILINE)
        for way in ways
        if "# 1 " in way
    }
    assert list(with_commands.values()) == [["1", "2", "3", "4"]] * 4, with_commands


@pytest.mark.parametrize(
    "command", [line for line in README_COMMANDS if re.match(r"(\w+=\S+ )*ray \w", line)]
)
def test_ray_has_the_commands_of_the_readme(command):
    words = shlex.split(command.split(" -- ")[0].split(" #")[0].rstrip("& "))
    words = words[words.index("ray") + 1 :]
    name = words[:2] if words[0] == "job" else words[:1]
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options(*name)


@pytest.mark.parametrize(
    "text",
    [README, *((CLUSTER / name).read_text() for name in [*LAUNCHERS, *MANIFESTS, "Containerfile"])],
)
def test_what_the_files_name_is_there(text):
    named = re.findall(r"(?<![\w/])/?(?:advrec/)?((?:jobs|cluster)/[\w./-]+\.(?:py|yaml))", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert all(out.startswith("/shared/") for out in re.findall(r"--out (\S+)", text))


@pytest.mark.parametrize("name", sorted(path.name for path in CLUSTER.iterdir() if path.is_file()))
def test_no_file_holds_a_secret(name):
    text = (CLUSTER / name).read_text()
    assert (
        re.findall(
            r"PRIVATE KEY-|(?i:passw(?:or)?d)\b|RAY_AUTH_TOKEN=\w|"
            r"\b[0-9a-f]{32,}\b|\bAKIA[0-9A-Z]{16}",
            text,
        )
        == []
    )
