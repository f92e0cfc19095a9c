"""Segment a folder on Dask workers, each of which is a SLURM job.

    python with_dask.py IMAGES RESULTS [options of nuclei-infer]

Needs ``pip install "nuclei-edge[cpu,dask]" dask-jobqueue``. Start it where it can stay until the end, such as in a job
of its own. Workers come and go with the work: `MAX_JOBS` is the most at a time. All nodes must see the folders under
the same paths.
"""

from __future__ import annotations

import subprocess
import sys

from dask_jobqueue.slurm import SLURMCluster

MAX_JOBS = 32
MEMORY = "8GB"


def main(images: str, results: str, *options: str) -> int:
    """Segment the images; return the exit code of nuclei-infer."""
    # One process and thread per processor of a job: each process holds the model once.
    with SLURMCluster(cores=4, processes=4, memory=MEMORY, walltime="04:00:00", job_name="nuclei-worker") as cluster:
        cluster.adapt(minimum_jobs=1, maximum_jobs=MAX_JOBS)
        command = ["nuclei-infer", images, "--out", results, "--dask", cluster.scheduler_address, *options]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
