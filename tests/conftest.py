"""Settings of all tests."""

from hypothesis import settings

# Speed is measured in benchmarks and never asserted: a busy machine must not fail a test.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
