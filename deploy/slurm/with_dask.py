"""Segment a folder on Dask workers, each of which is a SLURM job.

    python with_dask.py IMAGES RESULTS [options of nuclei-infer]

Needs ``pip install "nuclei-edge[cpu,dask]" dask-jobqueue``. Start it where it can stay until the end, such as in a job
of its own. Workers come and go with the work: `MAX_JOBS` is the most at a time. All nodes must see the folders, and the
folder in which this is started, under the same paths.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dask_jobqueue.slurm import SLURMCluster
from distributed.security import Security

MAX_JOBS = 32
MEMORY = "8GB"


def main(images: str, results: str, *options: str) -> int:
    """Segment the images; return the exit code of nuclei-infer."""
    # Other users of the cluster can reach the scheduler too, and whoever may talk to it can run code as you.
    security = Security.temporary()
    certificates = {
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": security.tls_ca_file,
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": security.tls_client_cert,
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": security.tls_client_key,
    }
    with SLURMCluster(
        cores=4,
        processes=4,  # each holds the model once
        memory=MEMORY,
        walltime="04:00:00",
        job_name="nuclei-worker",
        protocol="tls://",
        security=security,
        shared_temp_directory=str(Path.cwd()),  # from where the workers read their certificates
    ) as cluster:
        cluster.adapt(minimum_jobs=1, maximum_jobs=MAX_JOBS)
        command = ["nuclei-infer", images, "--out", results, "--dask", cluster.scheduler_address, *options]
        return subprocess.run(command, env={**os.environ, **certificates}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
