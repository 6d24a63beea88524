"""Tasks forked from warm templates, not executed. The launcher asks for them, and a template makes them.

Standard library only, and as little of that as will do: the launcher and the templates import this.
"""
