"""Corrections of the user: saved automatically, approved, written as a dataset."""
