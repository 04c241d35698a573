"""Captions and attributes of garments: captioners behind one Protocol, and where captions go."""
