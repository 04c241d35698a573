"""One try-on picture from person and garment to the pasted-back photo (item), and collections of
them: what to make (plan), what is made (manifest), how it looks (sheets, page).
"""
