"""Pure core: decides what a request may do. No socket, thread, coroutine or clock. This is its theory of operation.

Layers, from the request down:

    short_path      the outcome of the most common requests in fewer steps; all others go to flow
    flow            the steps from a request to its outcome
    key_flow        the same steps for an API key and the user who owns it
    key_set_cache   the steps for key sets: which to fetch, and when
    lookup          the steps for other replies of Stack Auth: cache, single flight, circuit breaker; used by
                    profiles, key_lookup, users_by_id, permissions and team_lookup
    token_cache     the verified tokens, and the conditions under which one is used again
    upstream        the effects that scripts yield, and the answers that resume them
    credentials, tokens, key_sets, rules, paths, cors, users ...   functions and records that need no I/O

Effects. A step that may need Stack Auth returns either its result or a script: a generator that yields the I/O it
needs and is resumed with the answer. Scripts decide and do no I/O; a runner (`SyncRunner` for threads, `AsyncRunner`
for tasks) performs the effects and decides nothing. So the order of steps is written once. The effects of a fetch:

    script = flow.authorize(request, clocks)        no usable key: a script instead of an `Outcome`
    effect = next(script)                           Share(("keys", "normal"), ...)
      inner = effect.script()                       this caller is the leader: its runner drives the shared script
      next(inner)                                   Call("GET", ".../jwks.json")
      inner.send(Resume(Reply(200, ...), clocks))   StopIteration: the keys are cached, the fetch is done
    script.send(Resume(Led(...), clocks))           StopIteration(Authenticated): signature and claims hold

An exception raised by a runner is thrown into the script. If the caller is cancelled, the script is closed.

Single flight. Concurrent callers that need the same answer share one fetch. The first is the leader and runs the
script; the others are followers. The leader gets the script's result. Followers are resumed when the leader is done,
even if it failed, and check the cache again: each finds the answer there or leads the next fetch. A leader whose task
is cancelled continues for a grace period, so that clients that disconnect do not make each other start over. Runners
and event loops do not share with each other, so a cache entry is replaced only by what was requested later.

Clocks. Every `Resume` brings both clocks, and nothing in the core reads them itself. Absolute times, such as the claims
`exp` and `nbf`, are compared with the wall clock. Ages and intervals are measured on both clocks (`clocks.elapsed`).

Freshness of keys (RFC 5861). A key set is fresh for ten minutes at most. A stale one is used while one caller
refreshes it (stale-while-revalidate), after the response where the middleware can defer that, and for a day while
Stack Auth fails (stale-if-error). Without usable keys requests wait for a fetch; until the next fetch may start, they
are refused with 503. `key_sets.ACTIONS` is the complete table. Answers of a `Lookup` are never served stale: they
decide who is let in.
"""
