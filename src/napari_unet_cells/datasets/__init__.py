"""Annotated images on disk."""
