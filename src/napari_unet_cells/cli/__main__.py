"""``python -m napari_unet_cells.cli``: the command line without the installed script."""

import os
import sys
from pathlib import Path

# Python looks into the current folder first, where a stray numpy.py would be taken for numpy.
if not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):
    here, package = Path.cwd(), Path(__file__).parents[2]
    if not package.samefile(here):
        del sys.path[0]

from napari_unet_cells.cli.main import main

sys.exit(main())
