"""From any photo to what a try-on model needs, and back."""
