"""``kmend demo``: the main job from source to a running container host, measured and shown."""
