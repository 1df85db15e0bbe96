"""kmend: live kernel patching for container hosts."""

__version__ = "0.1.0"
