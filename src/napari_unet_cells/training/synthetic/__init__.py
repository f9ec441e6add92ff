"""Simulated micrographs with known cells: shapes, appearances, a camera, datasets of them."""
