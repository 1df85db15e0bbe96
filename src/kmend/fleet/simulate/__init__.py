"""Simulated hosts that speak the agents' protocol with a server on this machine: for tests and benchmarks."""
