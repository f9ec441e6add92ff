"""What is read from and written to napari layers."""
