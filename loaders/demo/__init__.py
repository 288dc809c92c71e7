"""``cdw demo``: the main job from end to end on an embedded warehouse."""
