"""Reads, matches and writes ELF objects."""
