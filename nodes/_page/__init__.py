"""How ComfyUI's page draws a graph: for our templates, and for the workflow inside a picture."""
