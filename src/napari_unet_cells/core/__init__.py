"""The computing core: arrays in, arrays out."""
