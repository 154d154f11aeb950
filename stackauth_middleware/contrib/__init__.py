"""One thin module per framework. Each imports its own framework and no other; this one imports nothing."""
