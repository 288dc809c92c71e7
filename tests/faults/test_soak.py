"""A short soak: make soak runs a long one."""

from tests.faults.scene import Scene
from tests.faults.soak import soak

KILLS = 10


def test_loaders_are_killed_at_random_under_load(scene: Scene) -> None:
    outcome = soak(scene, KILLS, seed=4)
    assert not outcome.faults, str(outcome)
    assert outcome.kills.total() == KILLS
