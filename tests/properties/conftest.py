"""Settings of the property tests: they measure no time, since a busy machine would fail them."""

from hypothesis import settings

settings.register_profile("labctl", deadline=None)
settings.load_profile("labctl")
