"""What stands between a container and a piece of kernel code: gates, entries, and how they are judged."""
