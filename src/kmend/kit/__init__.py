"""Ground floor: errors, running programs, files, logging and progress. Knows nothing about kernels."""
