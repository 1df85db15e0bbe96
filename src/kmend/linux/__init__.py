"""One Linux machine as Python: kernel identity, livepatch sysfs, modules."""
