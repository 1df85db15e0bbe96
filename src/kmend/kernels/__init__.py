"""Which kernels a distribution offers, and their Kits on this machine."""
