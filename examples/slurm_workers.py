"""Start dask's scheduler here and its workers as jobs of SLURM, for ``batch --scheduler``.

It needs ``pip install dask-jobqueue`` beside the package, on a disk that all nodes see::

    python examples/slurm_workers.py
"""

from __future__ import annotations

import signal
from typing import Any

from dask_jobqueue import SLURMCluster

#: What a worker gets; `job_cpu` are the cores that a network computes with.
WORKER = {"cores": 1, "processes": 1, "job_cpu": 4, "memory": "8GB", "walltime": "04:00:00"}

#: As many jobs as there is work for, and no more than this.
MOST = 20


def cluster(**options: Any) -> SLURMCluster:
    """Start the scheduler; options as of `SLURMCluster`, such as ``queue`` or ``account``."""
    return SLURMCluster(**{**WORKER, **options})


if __name__ == "__main__":
    jobs = cluster()
    jobs.adapt(maximum_jobs=MOST)
    print(jobs.scheduler_address, flush=True)
    signal.pause()
