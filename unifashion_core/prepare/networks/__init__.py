"""MediaPipe's small networks for persons as torch modules, and what makes their weights."""
