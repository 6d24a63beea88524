"""Keeps every app's tasks at its definition: Marathon's role, with a driver in Mesos' role."""
