"""Labelled images: sources of encoded files, and the pipelines that make batches of them."""
