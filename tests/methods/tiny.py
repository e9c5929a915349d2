from methods.testing.purity import *  # noqa: F403
