"""Read and write napari layers, their metadata and transforms."""
