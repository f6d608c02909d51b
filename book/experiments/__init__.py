"""The recorded experiments: what takes too long for a page, run once and kept as JSON."""
