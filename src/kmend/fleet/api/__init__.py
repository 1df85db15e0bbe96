"""The REST API: JSON over HTTP, described by its own OpenAPI document."""
