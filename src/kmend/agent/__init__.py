"""Step 5: on each host: fetch, verify, apply, watch, report."""
