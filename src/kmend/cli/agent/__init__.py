"""``kmend agent``: its verbs, and what they say."""
