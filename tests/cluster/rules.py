"""What the files in cluster/ must say: each rule broken is a sentence that begins with the place in
the file.
"""

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import yaml
from ray.autoscaler._private import util
from ray.autoscaler._private.kuberay import autoscaling_config

from advrec.arguments import parser
from advrec.distributed import placement
from advrec.errors import AdvrecError
from advrec.spec.study import load

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((Path(__file__).parent / "kuberay-schema.yaml").read_text())
SHARED = "/shared"
TOKEN = "~/.ray/auth_token"
MATRIX_GI = 300_000 * 1280 * 4 / 2**30
"""A matrix of embeddings as large as DeepFashion's, in GiB: an object store must hold two (a
transfer attack has two models).
"""
PROVIDER_KEYS = {
    "aws": {"type", "region", "cache_stopped_nodes", "security_group"},
    "local": {"type", "head_ip", "worker_ips"},
}
"""Ray's schema lets any key through below provider."""


def launcher_faults(config: dict[str, Any]) -> list[str]:
    """Faults of a file for `ray up`: first those that Ray itself finds, then ours."""
    try:
        prepared = util.prepare_config(copy.deepcopy(config))
        util.validate_config(prepared)
    except jsonschema.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    except click.ClickException:  # its reason is printed, not raised
        return ["provider: refused by Ray"]
    except (ValueError, KeyError, NotImplementedError) as error:
        return [f"refused by Ray: {error}"]
    return list(_launcher_rules(config))


def _launcher_rules(config: dict[str, Any]) -> Iterator[str]:
    provider = config["provider"]
    if set(provider) != PROVIDER_KEYS[provider["type"]]:
        keys = sorted(PROVIDER_KEYS[provider["type"]])
        yield f"provider: has the keys {sorted(provider)}, should have {keys}"
    if provider.get("security_group", {}).keys() - {"GroupName"}:
        yield "provider.security_group: opens more than ssh"
    if config.get("file_mounts", {}).get(TOKEN) != TOKEN:
        yield f"file_mounts: {TOKEN} is not copied to the nodes"
    setup = " ".join(config.get("setup_commands", []))
    if not re.search(rf"mount -t nfs\S* .*\$EXPORT {SHARED}\b", setup):
        yield f"setup_commands: nothing mounts the shared volume at {SHARED}"
    types = config.get("available_node_types", {})
    if types:
        head = types[config["head_node_type"]]
        if head.get("resources", {}).get("CPU") != 0:
            yield "available_node_types.head.resources: the head does work (CPU is not 0)"
        for name, node_type in types.items():
            if name != config["head_node_type"]:
                yield from _worker_type(
                    f"available_node_types.{name}", node_type, config["max_workers"]
                )
    yield from _start("head_start_ray_commands", config, head_idle_by_flag=not types)
    yield from _start("worker_start_ray_commands", config)


def _worker_type(place: str, node_type: dict[str, Any], most: int) -> Iterator[str]:
    if not 0 == node_type.get("min_workers") <= node_type.get("max_workers", most) <= most:
        yield f"{place}: 0 = min_workers <= max_workers <= {most} does not hold"
    if node_type.get("resources", {}).get("GPU", 0) < 1:
        yield f"{place}.resources: has no GPU"


def _start(place: str, config: dict[str, Any], head_idle_by_flag: bool = False) -> Iterator[str]:
    head = place.startswith("head")
    (command,) = [command for command in config[place] if "ray start" in command]
    flags = start_flags(command)
    if not re.search(r"export [^;]*\bRAY_AUTH_MODE=token\b", command.split("ray start")[0]):
        yield f"{place}: RAY_AUTH_MODE=token is not exported before ray start"
    if head and flags.get("--dashboard-host") != "127.0.0.1":
        yield f"{place}: the dashboard is not bound to 127.0.0.1"
    if head_idle_by_flag and (flags.get("--num-cpus"), flags.get("--num-gpus")) != ("0", "0"):
        yield f"{place}: the head does work (--num-cpus and --num-gpus are not 0)"
    if ("--head" in flags) != head or ("--address" in flags) == head:
        yield f"{place}: a head starts with --head, a worker with --address"


def start_flags(command: str) -> dict[str, str]:
    """The options of the `ray start` in a shell command, with their values."""
    words = shlex.split(re.split(r"\bray start\b", command)[1])
    return {
        flag: value
        for flag, _, value in (word.partition("=") for word in words if word.startswith("--"))
    }


def manifest_faults(manifest: dict[str, Any], claim: str, ray_floor: tuple[int, ...]) -> list[str]:
    """Faults of a Kubernetes manifest; `claim` is the name of the shared volume's, `ray_floor` the
    oldest Ray that advrec bears.
    """
    kind = manifest.get("kind")
    if kind not in ("RayCluster", "RayJob", "PersistentVolumeClaim"):
        return [f"$.kind: {kind!r} is none of ours"]
    schema = {"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]}
    faults = [
        f"{error.json_path}: {error.message}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    ]
    if faults or kind == "PersistentVolumeClaim":
        return faults
    spec = manifest["spec"]
    if kind == "RayCluster":
        return list(_cluster_rules("$.spec", spec, claim, ray_floor))
    cluster = spec["rayClusterSpec"]
    faults = list(_cluster_rules("$.spec.rayClusterSpec", cluster, claim, ray_floor))
    return faults + [
        f"$.spec.entrypoint: {fault}"
        for fault in study_faults(spec["entrypoint"], most_nodes(autoscaler_types(cluster)))
    ]


def study_faults(command: str, nodes: list[dict[str, float]]) -> Iterator[str]:
    """Faults of a command that runs a study on a cluster which is empty at first and has `nodes` at
    most.
    """
    python, script, *arguments = command.split()
    if (python, script.removeprefix("/advrec/")) != ("python", "jobs/study.py"):
        yield "does not run jobs/study.py"
        return
    parsed = parser().parse_args(["study", *arguments])
    if not str(parsed.out).startswith(f"{SHARED}/"):
        yield f"--out {parsed.out} does not lie below {SHARED}: results would go with the pod"
    try:
        resources = load(ROOT / str(parsed.study).removeprefix("/advrec/"), parsed.set).resources
        for rule in (placement.place, placement.place_training):
            if not rule(resources, [], grows=True)[1]:
                yield f"{rule.__name__}: cores would do the work, for no GPUs are asked for"
            rule(resources, nodes, grows=False)
    except AdvrecError as error:
        yield str(error)


def autoscaler_types(spec: dict[str, Any]) -> dict[str, Any]:
    """The types of nodes of a RayCluster, as Ray's autoscaler reads them."""
    cluster = {"metadata": {"name": "advrec", "namespace": "default"}, "spec": spec}
    types: dict[str, Any] = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)[
        "available_node_types"
    ]
    return types


def most_nodes(types: dict[str, Any]) -> list[dict[str, float]]:
    """What the nodes have when as many are there as may come."""
    return [kind["resources"] for kind in types.values() for _ in range(kind.get("max_workers", 0))]


def _cluster_rules(
    place: str, spec: dict[str, Any], claim: str, ray_floor: tuple[int, ...]
) -> Iterator[str]:
    if tuple(map(int, spec["rayVersion"].split("."))) < ray_floor:
        yield f"{place}.rayVersion: {spec['rayVersion']} is older than pyproject.toml's {ray_floor}"
    groups = {f"{place}.headGroupSpec": spec["headGroupSpec"]}
    groups |= {
        f"{place}.workerGroupSpecs[{number}]": group
        for number, group in enumerate(spec["workerGroupSpecs"])
    }
    for name, group in groups.items():
        yield from _pod_rules(
            f"{name}.template.spec", group["template"]["spec"], claim, spec["rayVersion"]
        )
        if (
            "maxReplicas" in group
            and not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        ):
            yield f"{name}: minReplicas <= replicas <= maxReplicas does not hold"


def _pod_rules(place: str, pod: dict[str, Any], claim: str, ray_version: str) -> Iterator[str]:
    (container,) = pod["containers"]
    if not container["image"].endswith(f"-ray{ray_version}"):
        image = container["image"]
        yield f"{place}.containers[0].image: {image} has not Ray {ray_version} of rayVersion"
    if container["resources"]["requests"] != {
        k: v for k, v in container["resources"]["limits"].items() if k in ("cpu", "memory")
    }:
        yield f"{place}.containers[0].resources: Ray counts on limits, so requests are equal"
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    store = volumes.get(mounted.get("/dev/shm", ""), {}).get("emptyDir")
    if store is None:
        yield f"{place}: no memory volume is mounted at /dev/shm"
    elif (
        not 2 * MATRIX_GI
        <= gibibytes(store["sizeLimit"])
        <= gibibytes(container["resources"]["limits"]["memory"]) / 2
    ):
        size = store["sizeLimit"]
        yield (
            f"{place}.volumes: /dev/shm of {size} is less than two matrices "
            "or more than half of the memory"
        )
    shared = volumes.get(mounted.get(SHARED, ""), {}).get("persistentVolumeClaim", {})
    if shared.get("claimName") != claim:
        yield f"{place}: the claim {claim} is not mounted at {SHARED}"


def gibibytes(quantity: str) -> float:
    return float(quantity.removesuffix("Gi"))
