"""Verified reading of the signed repository (TUF client)."""
