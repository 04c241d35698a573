"""The conditioned diffusion try-on: networks and sampler.

What it is given (garment or sketch, agnostic image, mask, pose, context) comes in as tensors; who
prepared them is none of its business.
"""
