"""What one look at a container host sees: one small module a source, for model.facts. Nothing is started."""
