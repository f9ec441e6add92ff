"""Segmentation of many files."""
