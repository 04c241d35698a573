"""Measures of the parts: parity with the paper's code, and the protocols behind `bench`."""
