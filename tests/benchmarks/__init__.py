"""What the package costs, measured beside its peers: ``nox -s bench``, or ``python -m tests.benchmarks``.

Every figure stands beside others of the same run. None of them passes or fails a test.
"""
