"""``kmend exposure``: which kernel CVEs are open here, and which of them each container can reach."""
