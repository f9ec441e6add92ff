"""``python -m napari_unet_cells.cli``: the command line without the installed script."""

import os
import sys

# Python looks into the current folder first, where a stray numpy.py would be taken for numpy.
if not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if not os.path.samefile(package, os.getcwd()):
        del sys.path[0]

from napari_unet_cells.cli.start import main

sys.exit(main())
