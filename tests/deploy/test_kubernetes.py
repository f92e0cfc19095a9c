"""Kubernetes: the manifests fit the published schemas, and the commands in them give each pod its share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import Run, write_executable

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason='NOT RUN: kubernetes-validate is not installed; pip install -e ".[test-deploy]"'
)
yaml = pytest.importorskip("yaml", reason="NOT RUN: PyYAML is not installed")

VERSION = "1.33"
"""The first in which all that the job asks for is stable."""


def manifests(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def pods(deploy: Path) -> dict[str, dict[str, Any]]:
    """The specs of all pods."""
    job, _ = manifests(deploy / "kubernetes/job.yaml")
    (dask,) = manifests(deploy / "kubernetes/dask.yaml")
    cluster = dask["spec"]["cluster"]["spec"]
    return {
        "job": job["spec"]["template"]["spec"],
        "client": dask["spec"]["job"]["spec"],
        "worker": cluster["worker"]["spec"],
        "scheduler": cluster["scheduler"]["spec"],
    }


def test_the_job_and_its_network_policy_are_valid(deploy: Path) -> None:
    job, policy = manifests(deploy / "kubernetes/job.yaml")
    for manifest in (job, policy):
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    del job["spec"]["template"]["spec"]["containers"][0]["image"]
    job["spec"]["completion"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="completion"):
        kubernetes_validate.validate(job, VERSION, strict=True)


def test_the_pods_and_the_service_of_the_dask_cluster_are_valid(deploy: Path) -> None:
    for name, spec in pods(deploy).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        kubernetes_validate.validate(pod, VERSION, strict=True)
    (dask,) = manifests(deploy / "kubernetes/dask.yaml")
    service = dask["spec"]["cluster"]["spec"]["scheduler"]["service"]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "scheduler"}, "spec": service}
    kubernetes_validate.validate(service, VERSION, strict=True)
    assert service["spec"]["selector"]["dask.org/cluster-name"] == dask["metadata"]["name"]


def test_no_pod_may_more_than_it_needs(deploy: Path) -> None:
    policy = manifests(deploy / "kubernetes/job.yaml")[1]
    assert set(policy["spec"]) == {"podSelector", "policyTypes"}  # no rule allows any traffic
    for name, spec in pods(deploy).items():
        assert spec["securityContext"]["runAsNonRoot"], name
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"], name
        assert not container["securityContext"]["allowPrivilegeEscalation"], name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert "/tmp" in mounts, name
        assert all(mount.get("readOnly") for path, mount in mounts.items() if path == "/data/images"), name


def test_each_index_of_the_job_has_its_shard(deploy: Path, tmp_path: Path, run: Run) -> None:
    job = manifests(deploy / "kubernetes/job.yaml")[0]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    fake = write_executable(tmp_path / "bin" / "nuclei-infer", '#!/bin/sh\necho "$@"\n')
    shards = []
    for index in range(job["completions"]):
        command = (*container["command"], *container["args"])
        done = run(*command, path=fake.parent, JOB_COMPLETION_INDEX=str(index))
        words = done.stdout.split()
        assert words[:3] == ["/data/images", "--out", "/data/results"]
        shards.append(words[words.index("--shard") + 1])
    assert shards == [f"{shard}/{job['completions']}" for shard in range(1, job["completions"] + 1)]
