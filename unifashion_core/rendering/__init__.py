"""Collections of pictures: what to make (plan), what is made (manifest), how it looks (sheets)."""
