"""The files in `examples`, where what they are for can stand in for itself."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_jobs_of_slurm_become_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    from distributed import Client

    runs = 'cp "$1" "$0.script"\nsetsid bash "$0.script" >/dev/null &\n'
    fakes = {"sbatch": f'{runs}echo "Submitted batch job $!"', "scancel": 'kill -- "-$1"'}
    for name, does in fakes.items():
        command = tmp_path / name
        command.write_text(f"#!/bin/sh\nexec 2>/dev/null\n{does}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    cluster = runpy.run_path(str(EXAMPLES / "slurm_workers.py"))["cluster"]
    jobs = cluster(
        scheduler_options={"host": "127.0.0.1", "dashboard_address": None},
        local_directory=str(tmp_path),
    )
    try:
        with Client(jobs.scheduler_address) as client:
            jobs.scale(1)
            client.wait_for_workers(1, timeout=120)
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
            jobs.scale(0)
    finally:
        jobs.close(timeout=20)
    script = (tmp_path / "sbatch.script").read_text()
    assert "#SBATCH --cpus-per-task=4\n" in script
    assert "#SBATCH -t 04:00:00\n" in script
