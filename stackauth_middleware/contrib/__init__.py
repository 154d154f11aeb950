"""Framework integrations, one module each. A module imports its own framework and no other; this one imports none."""
