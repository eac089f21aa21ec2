"""Runs recorded in MLflow: one record a command, also across crashes and an absent server."""
