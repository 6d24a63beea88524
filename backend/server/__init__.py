"""The HTTP edge: Marathon's REST API v2 in front of the orchestrator."""
