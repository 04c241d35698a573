"""Machine code that LLVM makes for this CPU: how it is written and compiled. Needs no torch."""
