"""Server API: a function for each call, which checks its arguments and returns a `Request`. No I/O.

A request has the reader of its answer; `perform.perform` is the script that sends it. The clients of
`stackauth_middleware.client` run that script, one in threads and one in tasks, and add nothing.
"""
