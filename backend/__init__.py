"""The scheduling backend: Marathon's REST API v2 on this machine or on an engine."""
