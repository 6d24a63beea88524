"""What parts a task from the machine and from others: control groups, limits of memory, mounts.

Standard library only, and as little of that as will do: the launcher imports this.
"""
