"""``kmend update``: from a distribution update to livepatches."""
