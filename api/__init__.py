"""The vocabulary of apps, tasks and deployments, and the client of a Marathon v2 API."""
