"""Step 3: signs and publishes into channels; the only holder of keys."""
