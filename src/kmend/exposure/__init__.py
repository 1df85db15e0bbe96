"""Kernel CVE records and a kernel: what is open, what is closed, what is not there at all."""
