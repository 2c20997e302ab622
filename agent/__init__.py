"""Planners, plans, the graph, the composer, traces, the command line and the demo."""
