"""The pure core: decides what a request may do. No socket, thread, coroutine or clock."""
