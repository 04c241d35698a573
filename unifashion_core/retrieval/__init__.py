"""Retrieval: the gallery on disk, exact scores, search, filters and rerank."""
