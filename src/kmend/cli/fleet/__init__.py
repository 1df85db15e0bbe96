"""``kmend fleet``: what the server knows and does, from the command line."""
