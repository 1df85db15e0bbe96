"""Step 2: boots that kernel, loads the livepatch, tries to break it."""
