"""The UniFashion core: encoder, retrieval and their training, with no knowledge of ComfyUI."""
