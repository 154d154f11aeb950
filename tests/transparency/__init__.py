"""Runs the test suites of frameworks plain and with every app behind the middleware, and lists what differs.

A middleware that lets a request through must be invisible to the app. Suites that others wrote for their own frameworks
show that better than ours.
"""
