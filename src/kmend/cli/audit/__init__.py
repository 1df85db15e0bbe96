"""``kmend audit``: how this container host is set up."""
