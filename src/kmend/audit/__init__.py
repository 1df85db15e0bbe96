"""Facts in, Findings out: how a container host is set up."""
