"""An attack on the middleware by random requests, through every framework and every server.

One oracle: a handler that a rule protects never runs for a caller who does not meet the rule. `table` has the
routes, and beside each what its handler requires; every framework registers them by its own router, and each
handler records that it ran and for whom. Nothing of the matcher under test says what may run.

Also held: a request gets an answer, from the app or from the table of errors; no exception comes out of the
middleware; nothing but keys is asked of Stack Auth, and those no more often than their schedule allows; no work
grows faster than its input; and the plain request of every caller reaches the handlers that he may reach.

::

    nox -s attack                                        # half a minute, as continuous integration has it
    nox -s attack -- --seconds 3600 --seed 7             # longer, with other requests
    python -m tests.attack --part in-process --only litestar
    python -m tests.attack --replay '{"site": ...}'      # the request of a finding, as it is printed
    python -m tests.attack --broken all                  # each way to break the package has to show

A finding names what ran and for whom, and ends with the smallest request that showed it. ``$admin`` and the like
stand for tokens, which are made anew in each run. Sites are named ``framework/policy/mounting``.
"""
