"""Step 1: fix and kernel to livepatch module."""
