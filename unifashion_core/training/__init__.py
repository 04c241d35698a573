"""Training of the encoder, phases 1 and 2, and the data of the pocket encoder."""
