"""The command line while it is loaded: as a program, since the signal comes from outside."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Loads the command line and interrupts it while it imports a module, as Ctrl+C would.
INTERRUPTED = """
import signal, sys
from importlib.abc import MetaPathFinder

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored

class Interrupts(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
sys.argv = ["napari-unet-cells", "batch", "nothing.tif", "-o", "out"]
from napari_unet_cells.cli.start import main

sys.exit(main())
"""


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("napari_unet_cells.cli.batch", "Stopped before anything was done."),
        ("napari_unet_cells.batch.run", "Stopped. The same command goes on"),
    ],
)
def test_ctrl_c_while_it_is_loaded_is_a_sentence(tmp_path, module, said):
    code = INTERRUPTED.format(module=module)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert ended.returncode == 130
    assert ended.stderr.startswith(said)
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())


def test_the_start_loads_nothing_that_takes_time():
    code = (
        "import napari_unet_cells.cli.start, sys; "
        "assert not {'numpy', 'argparse', 'napari_unet_cells.cli.main'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
