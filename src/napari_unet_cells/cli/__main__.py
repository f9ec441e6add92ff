"""``python -m napari_unet_cells.cli``: the command line without the installed script."""

import sys

from napari_unet_cells.cli.main import main

sys.exit(main())
