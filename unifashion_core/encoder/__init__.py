"""The multimodal encoder: vision towers, Q-Former, projections, preprocessing, checkpoints."""
